"""Errors and summaries speak of keywords to a function, and of options to a command line."""

from __future__ import annotations

import pytest

import datamill
from datamill import _speech


@pytest.mark.parametrize(
    ("said", "spoken"),
    [
        ("choose another one with --output_dir", "choose another one with `output_dir`"),
        ("start it once with --same_group.", "start it once with `same_group=True`."),
        ("`--retry_failed no` leaves them", '`retry_failed="no"` leaves them'),
        (
            "`--consumer_group_id NAME --start_from earliest --exit-at-end` does",
            '`consumer_group_id="NAME", start_from="earliest", exit_at_end=True` does',
        ),
        ("`--max_attempts=5` or `--update_seconds -1`", "`max_attempts=5` or `update_seconds=-1`"),
        ("`--download_regex '(?!a).*'`", '`download_regex="(?!a).*"`'),
        ("`datamill retry --list --config a.config` lists them", "`datamill retry --list --config a.config` lists them"),
        ("`it's --mode memory`: no words of a shell", "`it's --mode memory`: no words of a shell"),
        ("the file `--x` of --nobody", "the file `--x` of --nobody"),
        (
            "invalid value 'x' for '--nan <WORD>'\n  [possible values: a]\n\n  tip: b\n\nFor more information, try '--help'.",
            "invalid value 'x' for `nan` [possible values: a]; tip: b",
        ),
        (
            "not provided:\n  --producer_topic_name <TOPIC>\n\nUsage: f --producer_topic_name <TOPIC>\n\nFor more information, try '--help'.",
            "not provided: `producer_topic_name`",
        ),
        ("two lines\nstay two", "two lines\nstay two"),
    ],
)
def test_options_in_a_text_become_keywords(said, spoken):
    assert _speech.of_keywords("reproducer")(said) == spoken


def test_an_option_may_be_a_keyword_of_another_name():
    speak = _speech.of_keywords("processor", {"config": "config_file"})
    assert speak("name the configuration with --config") == "name the configuration with `config_file`"


STORE = """
    import datamill, sys
    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            pass
    """


def test_keyword_forms_speak_of_keywords_and_command_lines_of_options(local, monkeypatch):
    monkeypatch.chdir(local.folder)
    local.upload({"a": b"x"})
    words = [f"--topic_name={local.files}", "--take_over=nowhere", "--exit_at_end", f"--config={local.log.config}"]

    class Store(datamill.DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            pass

    options = {"take_over": "nowhere", "exit_at_end": True}
    for run in (
        lambda: datamill.process(print, topic_name=local.files, config=local.log.config, **options),
        lambda: Store(local.log.config, local.files, **options).process_files_as_read(),
    ):
        with pytest.raises(datamill.SetUpError, match="`nowhere`, which `take_over` names"):
            run()
    for program in (STORE + "Store.run_from_command_line()\n", "import datamill\ndatamill.process(print)\n"):
        ran = local.run(program, *words)
        assert ran.returncode != 0 and "`nowhere`, which --take_over names" in ran.stderr, ran.stderr


def test_what_a_function_says_stays_as_it_is(local):
    def function(file):
        raise datamill.Stop("run the tool with --config")

    local.upload({"a": b"x"})
    with pytest.raises(datamill.RunError, match="run the tool with --config$"):
        local.process(function)


def test_lines_of_a_run_speak_of_keywords_and_those_of_the_users_stay(local, capsys):
    def function(file):
        file.logger.info("run the tool with --config")
        if file.filename == "0":
            raise ValueError("the tool lacks its --config")
        return {"angle": float("nan")}

    # of more files with NaN, the log says with which option they are named
    local.upload({f"{number}": b"x" for number in range(8)})
    local.reproduce(function)
    said = capsys.readouterr().err
    assert 'further files are named with `logger_stream_level="debug"`' in said, said
    assert said.count("run the tool with --config") == 8
    assert 'error="ValueError: the tool lacks its --config' in said
    ran = local.run("""
    import datamill
    def other(file):
        return {"angle": float("nan")}
    datamill.reproduce(other)
    """, *local.words(consumer_group_id="other", output_dir=local.folder / "other"))
    assert "further files are named with `--logger_stream_level debug`" in ran.stderr, ran.stderr


def test_a_value_that_json_does_not_have_is_allowed_by_a_keyword_or_an_option(local):
    local.upload({"a": b"x"})
    [(_, reason)] = local.reproduce(lambda file: {"angle": float("nan")}, nan="error").failed_files
    assert 'allow it with `nan="null"`' in reason
    ran = local.run("""
    import datamill
    def function(file):
        return {"angle": float("nan")}
    datamill.reproduce(function)
    """, *local.words(nan="error", consumer_group_id="other", output_dir=local.folder / "other"))
    assert "allow it with `--nan null`" in ran.stderr, ran.stderr
