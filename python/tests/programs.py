"""Programs of users' classes for the tests: each is run as a script, by datamill or by OpenMSIStream."""

import json
import os
import subprocess
import textwrap
from pathlib import Path

import datamill

#: Nothing in these tests takes so long; a test that waits in vain ends.
LONG = 240

#: A reproducer of metadata, as the documentation of OpenMSIStream shows one.
METADATA = textwrap.dedent(
    """
    from openmsistream import MetadataJSONReproducer

    class Lines(MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            content = datafile.bytestring
            if content.startswith(b"fail"):
                raise ValueError("the content begins with `fail`")
            return {"name": datafile.filename, "path": str(datafile.relative_filepath), "lines": content.count(b"\\n")}
    """
)

#: The end of a program that reads its command line by itself, as most public ones do.
MAIN = textwrap.dedent(
    """
    def main():
        parser = {name}.get_argument_parser()
        args, kwargs = {name}.get_init_args_kwargs(parser.parse_args())
        program = {name}(*args, **kwargs)
        print("RETURNED", program.{run}())
        program.close()
        program.close()
        program.logger.info("closed")

    if __name__ == "__main__":
        main()
    """
)

#: A processor that fails in each way that there is, by the first word of the file.
PROCESSOR = textwrap.dedent(
    """
    import sys
    from openmsistream import DataFileStreamProcessor

    class Store(DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            assert lock is self.lock
            word = datafile.bytestring.split()[0]
            if word == b"return":
                return ValueError("returned")
            if word == b"raise":
                raise ValueError("raised")
            if word == b"exit":
                sys.exit(9)
            if word == b"other":
                return False
            with lock, open("done.txt", "a") as done:
                print(datafile.relative_filepath, file=done)

        def _failed_processing_callback(self, datafile, lock):
            with lock, open("failed.txt", "a") as failed:
                print(datafile.relative_filepath, file=failed)

        @classmethod
        def run_from_command_line(cls, args=None):
            pass
    """
)


def send(log, topic, folder, files):
    """Sends files with these contents, under their paths below a folder."""
    for path, content in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        datamill.UploadDataFile(file, rootdir=folder).upload_whole_file(log.config, topic)


def read(log, topic):
    """The messages of a topic, as `datamill read` prints them."""
    built = Path(__file__).parents[2] / "target" / "debug" / "datamill"
    program = os.environ.get("DATAMILL_TEST_PROGRAM", built)
    command = [program, "read", topic, "--config", log.config, "--exit-at-end"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=LONG, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def results(log, topic):
    """The results of a topic: relative path and value."""
    return {dict(result["headers"])["datamill.source.path"]: result["value"] for result in read(log, topic)}
