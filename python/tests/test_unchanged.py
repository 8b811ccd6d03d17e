"""The same program, run by the released OpenMSIStream and by datamill, on Kafka."""

import json
import subprocess
import sys
import textwrap
import time

from programs import LONG, METADATA, read, results, send

#: Runs until `q`; a file that begins with `fail` fails unless there is a file `mended`.
PROGRAM = METADATA.replace('b"fail"):', 'b"fail") and not Path("mended").exists():') + textwrap.dedent(
    """
    import sys

    if __name__ == "__main__":
        config, files, metadata, group, output_dir = sys.argv[1:]
        program = Lines(
            Path(config), files, metadata, output_dir=Path(output_dir), consumer_group_id=group, n_threads=1
        )
        print("RETURNED", program.produce_processing_results_for_files_as_read())
        program.close()
    """
)
PROGRAM = "from pathlib import Path\n" + PROGRAM


def both(log):
    """A configuration that OpenMSIStream takes too."""
    producer = "[producer]\nkey.serializer = StringSerializer\nvalue.serializer = StringSerializer\n"
    consumer = "key.deserializer = StringDeserializer\nvalue.deserializer = DataFileChunkDeserializer\n"
    path = log.config.with_name("both.config")
    path.write_text(f"{log.config.read_text()}enable.auto.commit = False\n{consumer}\n{producer}")
    return path


class Running:
    """A program that runs until it is told to stop by its console."""

    def __init__(self, tmp_path, name, *command):
        (tmp_path / "program.py").write_text(PROGRAM)
        self.said = tmp_path / f"{name}.txt"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(
                [*command], cwd=tmp_path, stdin=subprocess.PIPE, stdout=said, stderr=said, text=True
            )

    def wait_for(self, condition):
        """Waits until the condition holds."""
        until = time.monotonic() + LONG
        while not condition():
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < until, self.said.read_text()
            time.sleep(0.2)

    def quit(self):
        """Types `q`, and gives what the program said."""
        try:
            self.process.communicate("q\n", timeout=LONG)
        finally:
            self.process.kill()
        assert self.process.returncode == 0, self.said.read_text()
        return self.said.read_text()


def test_a_program_has_the_same_results_and_datamill_goes_on_where_openmsistream_stopped(kafka, tmp_path, peer):
    files = kafka.topic("files", 1)
    send(kafka, files, tmp_path / "data", {"a/one.csv": b"1\n2\n", "two.csv": b"3\n", "sub/bad.csv": b"fail\n"})
    theirs, ours = kafka.topic("theirs", 1), kafka.topic("ours", 1)
    config = both(kafka)
    group = kafka.group("lines")
    done = {"a/one.csv", "two.csv"}
    keys = {"a_one.csv_chunk_processing_result", "_two.csv_chunk_processing_result"}
    mill = (sys.executable, "-m", "datamill.openmsistream")

    def values(topic):
        found = read(kafka, topic)
        return {result["key"]: json.loads(result["value"]) for result in found}, len(found)

    # each by itself, from the beginning of the topic
    table = tmp_path / "out" / "LOGS" / f"consuming_from_{files}_in_progress_by_{group}.csv"
    running = Running(tmp_path, "peer", peer, "-u", "program.py", config, files, theirs, group, "out")
    running.wait_for(lambda: set(values(theirs)[0]) == keys and "failed" in (table.read_text() if table.exists() else ""))
    running.quit()
    running = Running(tmp_path, "mill", *mill, "program.py", config, files, ours, kafka.group("other"), "mill")
    running.wait_for(lambda: set(results(kafka, ours)) == done)
    said = running.quit()
    assert "(3, 3, 2, 2, [" in said, said
    assert values(ours)[0] == values(theirs)[0]

    # the same command line goes on in OpenMSIStream's group, and does the file that had failed there
    (tmp_path / "mended").touch()
    running = Running(tmp_path, "goes_on", *mill, "program.py", config, files, theirs, group, "out")
    running.wait_for(lambda: len(values(theirs)[0]) == 3)
    said = running.quit()
    assert "taking the group over" in said, said
    found, count = values(theirs)
    assert count == 3, "no file has a second result"
    assert found["sub_bad.csv_chunk_processing_result"] == {"name": "bad.csv", "path": "sub/bad.csv", "lines": 1}

    # and the next start has nothing to do
    running = Running(tmp_path, "again", *mill, "program.py", config, files, theirs, group, "out")
    running.wait_for(lambda: "there is nothing to take over" in running.said.read_text())
    running.quit()
    assert values(theirs)[1] == 3


def test_where_openmsistream_had_another_folder_datamill_stops_and_says_what_to_do(kafka, tmp_path, peer):
    files, metadata = kafka.topic("files", 1), kafka.topic("metadata", 1)
    send(kafka, files, tmp_path / "data", {"two.csv": b"3\n"})
    group, config = kafka.group("lines"), both(kafka)
    running = Running(tmp_path, "peer", peer, "-u", "program.py", config, files, metadata, group, "out")
    running.wait_for(lambda: len(read(kafka, metadata)) == 1)
    running.quit()
    command = [sys.executable, "-m", "datamill.openmsistream", "program.py", config, files, metadata, group, "new"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=LONG, check=False)
    assert ran.returncode == 2 and "--take_over" in ran.stderr, ran.stderr
    assert len(read(kafka, metadata)) == 1

