"""Mistakes in programs of users' classes are told with what mends them."""

from __future__ import annotations

import pytest

import datamill

CONSTRUCTORS = """
    from datamill import MetadataJSONReproducer

    class Silent(MetadataJSONReproducer):
        def __init__(self, *args, **kwargs):
            self.unit = "deg"
        def _get_metadata_dict_for_file(self, datafile):
            return {}

    class Early(Silent):
        def __init__(self, *args, **kwargs):
            self.logger.info("not yet")
            MetadataJSONReproducer.__init__(self, *args, **kwargs)

    class Few(Silent):
        def __init__(self, threshold=3):
            pass

    class Empty(Silent):
        def __init__(self, *args, **kwargs):
            MetadataJSONReproducer.__init__(self)

    if __name__ == "__main__":
        import sys
        globals()[sys.argv.pop(1)].run_from_command_line()
    """

LINES = "    def __init__(self, *args, **kwargs):\n        super().__init__(*args, **kwargs)\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Silent", "`Silent.__init__` has not called `super().__init__`: begin it with\n"),
        ("Early", "`Early.__init__` has not called `super().__init__` before `logger` is used: begin it with\n"),
        ("Few", "`Few.__init__` has the parameters `(self, threshold=3)`, and a program is made with more: "),
        ("Empty", "a constructor does not hand on what it gets. Write\n"),
    ],
)
def test_a_constructor_that_does_not_hand_on_what_it_gets_is_told_with_the_lines_that_mend_it(local, name, said):
    ran = local.run(CONSTRUCTORS, name, *local.words())
    assert ran.returncode == 2 and said in ran.stderr and LINES in ran.stderr + "\n", ran.stderr
    assert "datamill/_" not in ran.stderr, "frames of the package say nothing to the user"


def test_what_a_constructor_has_not_set_yet_is_no_attribute(embedded, tmp_path):
    class Careful(datamill.DataFileStreamProcessor):
        def __init__(self, *args, **kwargs):
            assert not hasattr(self, "n_threads") and not hasattr(self, "mine") and not hasattr(self, "logger")
            super().__init__(*args, **kwargs)
            assert hasattr(self, "n_threads") and not hasattr(self, "mine")

        def _process_downloaded_data_file(self, datafile, lock):
            return None

    program = Careful(embedded.config, "files", output_dir=tmp_path / "out")
    with pytest.raises(AttributeError, match="has no attribute `mine`"):
        program.mine


def test_a_file_of_a_type_whose_constructor_does_nothing_fails_with_the_lines_that_mend_it(local):
    class Odd(datamill.DownloadDataFileToMemory):
        def __init__(self, *args, **kwargs):
            pass

    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            datafile.logger.info("never")

    local.upload({"a": b"x"})
    out = local.output_dir
    options = {"datafile_type": Odd, "exit_at_end": True, "max_attempts": 1}
    Store(local.log.config, local.files, output_dir=out, **options).process_files_as_read()
    [table] = (out / "LOGS").glob("failed_from_*.csv")
    assert "`Odd.__init__` has not called `super().__init__` before `logger` is used" in table.read_text()


@pytest.mark.parametrize(("base", "missing"), [("DataFileStreamProcessor", "--topic_name"), ("DataFileStreamReproducer", "--producer_topic_name")])
def test_a_program_of_a_class_without_a_topic_asks_for_one(local, base, missing):
    hooks = "_process_downloaded_data_file = _get_processing_result_message_for_file = lambda self, datafile, lock: None"
    ran = local.run(f"""
    import datamill, sys
    class Program(datamill.{base}):
        {hooks}
    Program.run_from_command_line(["--config", sys.argv[1]])
    """, str(local.log.config))
    assert ran.returncode == 2 and missing in ran.stderr and "`test`" not in ran.stderr, ran.stderr


def test_a_reproducer_of_messages_may_answer_as_a_function_does(local):
    answers = {"dict": {"a": 1}, "text": "one", "bytes": b"\x00\xff"}

    class Program(datamill.DataFileStreamReproducer):
        def _get_processing_result_message_for_file(self, datafile, lock):
            return answers[datafile.filename]

    local.upload({name: b"x" for name in answers})
    program = Program(local.log.config, local.files, local.results, output_dir=local.output_dir, exit_at_end=True)
    program.produce_processing_results_for_files_as_read()
    results = local.read()
    assert results["dict"].json() == {"a": 1} and results["text"].text() == "one"
    assert (results["bytes"].value, results["bytes"].key) == (b"\x00\xff", b"_bytes_chunk_processing_result")


@pytest.mark.parametrize("base", [datamill.DataFileStreamProcessor, datamill.DataFileStreamReproducer])
def test_a_class_has_every_option_of_its_engine_under_each_name(base):
    from datamill import _engine

    parser = base.get_argument_parser()
    for option in _engine.options(base._KIND):
        for name in option["names"]:
            assert parser._as_known(name) in parser._option_string_actions, name


def test_the_class_of_a_program_is_no_function(local):
    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

    with pytest.raises(TypeError, match=r"run it with `Store\.run_from_command_line\(\)`"):
        datamill.process(Store, topic_name=local.files, config=local.log.config)
