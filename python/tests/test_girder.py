"""Files on a Girder server: the same program run by the released OpenMSIStream and by datamill."""

import os
import subprocess
import textwrap
import time
from pathlib import Path

from girder_server import GirderServer
from programs import LONG, send
from test_unchanged import both

import datamill

#: A program like the public ones: they call the private method of their base to add metadata to an item.
PROGRAM = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from openmsistream.girder.girder_upload_stream_processor import GirderUploadStreamProcessor

    class Uploader(GirderUploadStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return self._GirderUploadStreamProcessor__process_downloaded_data_file(datafile, metadata=METADATA)

        @classmethod
        def run_from_command_line(cls, args=None):
            parser = cls.get_argument_parser()
            args, kwargs = cls.get_init_args_kwargs(parser.parse_args(args))
            program = cls(*args, **kwargs)
            program.process_files_as_read()
            program.close()

    if __name__ == "__main__":
        Uploader.run_from_command_line()
    """
)


def upload(tmp_path, log, topic, python, words, metadata, until):
    """Runs the program on a server until the condition holds, and gives what the server has."""
    (tmp_path / "program.py").write_text(PROGRAM.replace("METADATA", repr(metadata)))
    with GirderServer() as server:
        command = [*python, "program.py", server.url, "key", "--config", both(log), "--topic_name", topic, *words]
        # the peer has the client of Girder, and gets datamill alone of this environment
        site = tmp_path / "site"
        site.mkdir(exist_ok=True)
        (site / "datamill").unlink(missing_ok=True)
        (site / "datamill").symlink_to(Path(datamill.__file__).parent)
        environment = {**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
        said = tmp_path / "said.txt"
        with said.open("w") as output:
            process = subprocess.Popen(
                [*map(str, command)], cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stdout=output, stderr=output, text=True
            )
        try:
            end = time.monotonic() + LONG
            while not until(server.tree()):
                assert process.poll() is None and time.monotonic() < end, said.read_text()
                time.sleep(0.1)
            process.communicate("q\n", timeout=LONG)
        finally:
            process.kill()
        assert process.returncode == 0, said.read_text()
        return server.tree()


def test_a_program_puts_the_same_items_on_the_server(kafka, tmp_path, peer):
    topic = kafka.topic("files", 1)
    send(kafka, topic, tmp_path / "data", {"sub/deep/one.txt": b"1", "two.txt": b"22"})

    def has_all(tree):
        return len(tree) == 2 and all(meta["checksum"] for _, meta in tree.values())

    for words in ([], ["--collection_name", "Lab", "--girder_root_folder_path", "a/b", "--metadata", '{"x": 1}']):
        theirs = upload(tmp_path, kafka, topic, [peer], [*words, "--output_dir", "theirs"], None, has_all)
        mill = [peer, "-m", "datamill.openmsistream"]
        ours = upload(tmp_path, kafka, topic, mill, [*words, "--output_dir", "ours"], None, has_all)
        assert ours == theirs
    assert set(ours) == {"Lab/a/b/sub/deep/one.txt", "Lab/a/b/two.txt"}


def test_what_is_there_is_replaced_only_where_that_is_asked_for(embedded, tmp_path, peer):
    topic = embedded.topic("files")
    # two versions of one file, and one of them again
    for content in (b"first", b"second", b"second"):
        send(embedded, topic, tmp_path / "data", {"one.txt": content})
    send(embedded, topic, tmp_path / "data", {"two.txt": b"2"})

    def has(tree, content, line=""):
        items = {path: (content, meta.get("own")) for path, (content, meta) in tree.items()}
        wanted = {"C/t/one.txt": (content, 7), "C/t/two.txt": (b"2", 7)}
        return items == wanted and line in (tmp_path / "said.txt").read_text()

    place = ["--collection_name", "C", "--girder_root_folder_path", "t", "--output_dir", "out"]
    mill = [peer, "-m", "datamill.openmsistream"]
    line = "one.txt is on the Girder server with another content, and stays as it is there"
    upload(tmp_path, embedded, topic, mill, place, {"own": 7}, lambda tree: has(tree, b"first", line))
    replacing = [*place, "--replace_existing"]
    upload(tmp_path, embedded, topic, mill, replacing, {"own": 7}, lambda tree: has(tree, b"second"))
