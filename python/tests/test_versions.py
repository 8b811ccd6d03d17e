"""The version of a function in its results, the newest results, and files that are run again."""

from __future__ import annotations

import subprocess

import pytest

import datamill


def test_results_name_the_version_of_the_module_of_their_function(local):
    local.upload({"first": b"x"})
    program = """
        import datamill

        __version__ = "1.10"

        def size(file):
            return {"size": file.size}

        if __name__ == "__main__":
            datamill.reproduce(size)
    """
    assert local.run(program).returncode == 0
    local.upload({"second": b"x"})
    assert local.run(program, *local.words(processor_version="2.0")).returncode == 0
    local.upload({"third": b"x"})
    assert local.reproduce(lambda file: "text", name="size").exit_code == 0
    versions = {path: dict(result.headers).get("datamill.processor_version") for path, result in local.read().items()}
    assert versions == {"first": b"1.10", "second": b"2.0", "third": None}


def test_only_the_newest_result_of_each_file_is_read(work):
    for content in (b"one", b"longer"):
        work.upload({"again": content, f"{len(content)}": content})
    assert work.reproduce(lambda file: {"size": file.size}, name="sizes").files == 4
    read = [(result.path, result.json()["size"]) for result in datamill.read(work.results, config=work.log.config, newest=True)]
    assert sorted(read) == [("3", 3), ("6", 6), ("again", 6)]
    with pytest.raises(TypeError, match="`follow` does not go with it"):
        datamill.read(work.results, config=work.log.config, newest=True, follow=True)


def test_a_program_of_a_class_has_the_version_of_its_module_or_its_keyword(local):
    program = """
        import datamill

        __version__ = "3.1"

        class Sizes(datamill.DataFileStreamReproducer):
            def _get_processing_result_message_for_file(self, datafile, lock):
                return datamill.ReproducerMessage(datafile, str(datafile.size))

        if __name__ == "__main__":
            Sizes.run_from_command_line()
    """
    local.upload({"first": b"x"})
    assert (ran := local.run(program)).returncode == 0, ran.stderr
    local.upload({"second": b"x"})
    assert (ran := local.run(program, *local.words(processor_version="4"))).returncode == 0, ran.stderr
    versions = {path: dict(result.headers)["datamill.processor_version"] for path, result in local.read().items()}
    assert versions == {"first": b"3.1", "second": b"4"}


def test_results_of_an_earlier_version_are_computed_again(work, program):
    work.upload({"a": b"1", "b": b"22"})
    work.reproduce(lambda file: {"size": file.size}, name="sizes", processor_version="1.9")
    config = [] if work.log.config is None else ["--config", str(work.log.config)]
    group = ["--topic_name", work.files, "--consumer_group_id", work.files]
    words = [program, "rerun", *group, "--version_below", "1.10", "--yes", *config]
    asked = subprocess.run(words, cwd=work.folder, capture_output=True, text=True, timeout=240, check=False)
    assert asked.returncode == 0 and "another result of 2 files is asked for" in asked.stderr, asked.stderr
    ended = work.reproduce(lambda file: {"size": -file.size}, name="sizes", processor_version="1.10")
    assert (ended.exit_code, ended.files) == (0, 2)
    newest = datamill.read(work.results, config=work.log.config, newest=True)
    assert {result.path: result.json()["size"] for result in newest} == {"a": -1, "b": -2}
    answers = [dict(result.headers).get("datamill.rerun_of") for result in datamill.read(work.results, config=work.log.config)]
    assert len(answers) == 4 and answers.count(None) == 2
