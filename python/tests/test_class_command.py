"""Classes of programs on the command line of `datamill`: their own options, and the command that is theirs."""

from __future__ import annotations

import pytest

# the fixtures are found by their names here
from test_command import Command, command, package, uploaded  # noqa: F401

ABOVE = """
    from datamill import DataFileStreamProcessor, MetadataJSONReproducer, OpenMSIStreamArgumentParser

    class Parser(OpenMSIStreamArgumentParser):
        ARGUMENTS = {
            **OpenMSIStreamArgumentParser.ARGUMENTS,
            "max": ["optional", {"type": float, "default": 5.0, "help": "Least angle"}],
        }

    class Above(DataFileStreamProcessor):
        ARGUMENT_PARSER_TYPE = Parser

        def __init__(self, *args, max=5.0, **kwargs):
            super().__init__(*args, **kwargs)
            self.max = max

        @classmethod
        def get_command_line_arguments(cls):
            names, defaults = super().get_command_line_arguments()
            return [*names, "max"], defaults

        @classmethod
        def get_init_args_kwargs(cls, parsed_args):
            args, kwargs = super().get_init_args_kwargs(parsed_args)
            return args, {**kwargs, "max": parsed_args.max}

        def _process_downloaded_data_file(self, datafile, lock):
            with lock, open("above.txt", "a") as file:
                print(datafile.filename, self.max, self.n_threads, file=file)

    class Sizes(MetadataJSONReproducer):
        def _get_metadata_dict_for_file(self, datafile):
            return {}

    def count(file):
        return {}
"""


def test_a_class_has_its_own_options_on_the_command_line_of_datamill(command: Command, embedded):
    topic = uploaded(command, embedded, 2)
    command.write("above.py", ABOVE)
    # `--max` alone would be the beginning of an option of datamill
    words = ("process", "above.py:Above", "--max", "7", "--topic-name", topic, "--n_consumer_threads=1", "--exit-at-end")
    ended = command.run(*words, "--config", embedded.config)
    assert ended.returncode == 0, ended.stderr
    assert sorted((command.folder / "above.txt").read_text().splitlines()) == ["file0.txt 7.0 1", "file1.txt 7.0 1"]
    for function in ("above.py:Above", "above.py:count"):
        ended = command.run("process", function, "--topic_name", topic, "--maxi", "7")
        assert ended.returncode == 2 and "--maxi" in ended.stderr and "Traceback" not in ended.stderr, ended.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["reproduce", "above.py:Above", "--topic_name", "scans"],
            "`Above` is a processor, which acts on each file and sends no results: run it with "
            "`datamill process above.py:Above --topic_name scans`",
        ),
        (
            ["reproduce", "above.py:Above", "--consumer_topic_name=scans", "--producer_topic_name", "r"],
            "`datamill process above.py:Above --topic_name scans`",
        ),
        (
            ["process", "above.py:Sizes", "--topic_name", "scans"],
            "`Sizes` is a reproducer, which sends a result for each file: run it with "
            "`datamill reproduce above.py:Sizes --consumer_topic_name scans --producer_topic_name RESULTS`",
        ),
    ],
)
def test_a_class_for_the_other_command_is_refused_with_the_right_one(package: Command, words: list[str], said: str):
    package.write("above.py", ABOVE)
    ended = package.run(*words)
    assert ended.returncode == 2 and said in ended.stderr, ended.stderr
