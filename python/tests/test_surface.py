"""The classes have what OpenMSIStream's classes have: compared with the released package, by running both."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CLASSES = (
    "DataFileStreamProcessor",
    "DataFileStreamReproducer",
    "MetadataJSONReproducer",
    "UploadDataFile",
    "DataFileUploadDirectory",
    "DataFileDownloadDirectory",
    "S3TransferStreamProcessor",
    "GirderUploadStreamProcessor",
)

#: What programs of users override or call, beside the public members.
HOOKS = {
    "_failed_processing_callback",
    "_get_auto_output_dir",
    "_get_metadata_dict_for_file",
    "_get_processing_result_message_for_file",
    "_mismatched_hash_callback",
    "_on_check",
    "_on_shutdown",
    "_process_downloaded_data_file",
}

#: The consumers, producers and loops of OpenMSIStream, whose place the engine takes.
ENGINE = {
    "CONSUMER_POLL_TIMEOUT",
    "FLUSH_PRODUCER_EVERY",
    "NO_MESSAGE_WAIT",
    "PRODUCER_FLUSH_TIMEOUT",
    "SHUTDOWN_THREAD_TIMEOUT",
    "get_heartbeat_message",
    "get_log_message",
    "get_new_producer",
    "get_new_subscribed_consumer",
    "MAX_WAIT_TIME",
    "MIN_WAIT_TIME",
    "N_STATUS_MESSAGE_FILES",
    "WATCHDOG_OBSERVER_TIMEOUT",
    "add_chunks_to_upload",
    "chunked_at_timestamp",
    "consumer_group_id",
    "consumer_topic_name",
    "enqueue_chunks_for_upload",
    "filepath_should_be_uploaded",
    "fully_enqueued",
    "have_file_to_upload",
    "kafkacrypto",
    "n_partially_done_files",
    "other_datafile_kwargs",
    "partially_done_file_paths",
    "producer_callback",
    "select_bytes",
    "session",
    "upload_in_progress",
    "upload_status_msg",
    "waiting_to_upload",
    "run",
    "set_heartbeat_producer",
    "set_log_producer",
}


#: What a program has that calls a function of the user's.
OF_FUNCTIONS = {"_process_downloaded_data_file", "_failed_processing_callback"}


@pytest.fixture(scope="module")
def surfaces(tmp_path_factory):
    """What the released package offers, and what datamill offers under the same names."""
    peer = os.environ["DATAMILL_TEST_PEER"]
    folder = tmp_path_factory.mktemp("surface")
    config = folder / "lab.config"
    config.write_text("[broker]\nbootstrap.servers = localhost:1\n")

    def run(*python):
        command = [*python, str(HERE / "surface_of.py"), str(config), *CLASSES]
        ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout.splitlines()[-1])

    return run(peer), run(sys.executable, "-m", "datamill.openmsistream")


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_is_there_with_the_same_parameters(surfaces, name):
    theirs, ours = (surface[name]["members"] for surface in surfaces)
    hooks = HOOKS - OF_FUNCTIONS if name == "S3TransferStreamProcessor" else HOOKS
    wanted = {member for member in theirs if not member.startswith("_")} - ENGINE | (hooks & set(theirs)) | {"__init__"}
    missing = wanted - set(ours)
    assert not missing, f"{name} lacks {missing}"
    for member in sorted(wanted - {"ARGUMENT_PARSER_TYPE"}):
        if theirs[member] is not None:
            assert ours[member] == theirs[member], member


@pytest.mark.parametrize("name", CLASSES)
def test_the_command_line_is_the_same(surfaces, name):
    theirs, ours = (surface[name] for surface in surfaces)
    assert ours["actions"] == theirs["actions"]
    assert ours["parsed"] == theirs["parsed"]


@pytest.mark.parametrize("name", CLASSES)
def test_the_constructor_gets_the_same_from_the_command_line(surfaces, name):
    theirs, ours = (surface[name] for surface in surfaces)
    topics = {"consumer_topic_name", "producer_topic_name"}
    if "Reproducer" not in name:
        topics = set()
        assert ours["args"] == theirs["args"]
    else:
        # the released package gives a topic twice here, and no such program can start
        assert ours["args"][1:] == ["files", "files"]
    assert ours["kwargs"] == {key: value for key, value in theirs["kwargs"].items() if key not in topics}


@pytest.mark.parametrize("name", CLASSES)
def test_bases_that_programs_add_have_an_order(surfaces, name):
    bases = {"LogOwner", "Runnable", "HasArguments", "HasArgumentParser", "ABC"}
    theirs, ours = ([base for base in surface[name]["mro"] if base in bases] for surface in surfaces)
    assert ours == theirs


def test_every_module_that_programs_import_is_there():
    program = """
from openmsistream import DataFileStreamProcessor, DataFileStreamReproducer, MetadataJSONReproducer, __version__
from openmsistream.data_file_io import DataFile, ReproducerMessage
from openmsistream.data_file_io.actor.data_file_stream_processor import DataFileStreamProcessor as P
from openmsistream.data_file_io.entity.data_file import DataFile
from openmsistream.data_file_io.entity.download_data_file import DownloadDataFileToMemory
from openmsistream.data_file_io.entity.reproducer_message import ReproducerMessage
from openmsistream.kafka_wrapper import Producible
from openmsistream.metadata_extraction.metadata_json_reproducer import MetadataJSONReproducer as M
from openmsistream.utilities import OpenMSIStreamArgumentParser
from openmsistream.utilities.config import RUN_CONST
from openmsitoolbox import Runnable, LogOwner
from openmsitoolbox.argument_parsing.parser_callbacks import positive_int
from openmsitoolbox.logging import OpenMSILogger
from openmsitoolbox.utilities.exception_tracking_thread import ExceptionTrackingThread
assert P is DataFileStreamProcessor and M is MetadataJSONReproducer and __version__ == "1.8.8"

class Both(DataFileStreamProcessor, Runnable):
    def _process_downloaded_data_file(self, datafile, lock):
        return None
try:
    import openmsistream.services
except ModuleNotFoundError as error:
    assert "datamill has no `openmsistream.services`" in str(error)
else:
    raise AssertionError("openmsistream.services is there")
"""
    ran = unchanged(program)
    assert ran.returncode == 0, ran.stderr


def unchanged(program, *words, **options):
    """Runs the text of a program as one of OpenMSIStream."""
    code = "import sys; from datamill.openmsistream import _hook; _hook.install(); exec(sys.argv[1])"
    return subprocess.run(
        [sys.executable, "-c", code, program, *words], capture_output=True, text=True, timeout=120, **options
    )


# ---- the parser


def test_a_program_adds_arguments_by_name():
    from datamill import DataFileStreamProcessor
    from datamill._classes.parser import OpenMSIStreamArgumentParser

    class Parser(OpenMSIStreamArgumentParser):
        ARGUMENTS = {
            **OpenMSIStreamArgumentParser.ARGUMENTS,
            "optional_threshold": ["optional", {"type": float, "default": 5.0, "help": "Least angle"}],
        }

    class Program(DataFileStreamProcessor):
        ARGUMENT_PARSER_TYPE = Parser

        def _process_downloaded_data_file(self, datafile, lock):
            return None

        @classmethod
        def get_command_line_arguments(cls):
            names, defaults = super().get_command_line_arguments()
            return [*names, "optional_threshold"], {**defaults, "update_seconds": 7}

    parser = Program.get_argument_parser()
    parser.add_argument("--own", default="x")
    parsed = parser.parse_args(["--threshold", "2.5", "--topic", "t"])
    assert (parsed.threshold, parsed.update_seconds, parsed.own) == (2.5, 7, "x")
    assert (parsed.topic_name, parsed.consumer_topic_name) == ("t", "t")
    assert parser.parse_args(["--topic-name=a-b", "--exit-at-end", "--own", "x-y"]).topic_name == "a-b"
    assert "Least angle (default = 5.0)" in re.sub(r"\s+", " ", parser.format_help())


def test_an_option_of_a_programs_own_is_taken_with_dashes_and_with_underscores():
    from datamill._classes.parser import OpenMSIStreamArgumentParser

    class Parser(OpenMSIStreamArgumentParser):
        ARGUMENTS = {**OpenMSIStreamArgumentParser.ARGUMENTS, "least-angle": ["optional", {"type": float, "default": 1.0}]}

    parser = Parser(prog="program.py")
    parser.add_arguments("least-angle", "topic_name", "n_threads")
    parser.add_argument("--own-one")
    for word in ("--least-angle", "--least_angle", "--least", "--least-an"):
        assert parser.parse_args([word, "2.5"]).least_angle == 2.5
        assert parser.parse_args([f"{word}=2.5"]).least_angle == 2.5
    assert parser.parse_args(["--own_one=a_b-c"]).own_one == "a_b-c"
    assert parser.parse_args(["--topic-na", "t"]).topic_name == "t"


def test_what_is_wrong_with_a_command_line_is_told_in_a_sentence(capsys):
    from datamill import DataFileStreamProcessor

    class Program(DataFileStreamProcessor):
        def _process_downloaded_data_file(self, datafile, lock):
            return None

    parser = Program.get_argument_parser(prog="program.py")
    for words, said in (
        (["--topic_nmae=files"], "there is no option `--topic_nmae`: did you mean `--topic_name`?"),
        (["--zzzzzz"], "there is no option `--zzzzzz`."),
        (["--n_threads", "x"], "argument --n_threads: `x` is not a whole number above 0."),
        (["--topic_name"], "argument --topic_name: expected one argument."),
    ):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        assert capsys.readouterr().err == f"error: {said} `program.py --help` lists the options\n"


def test_a_default_of_another_type_is_refused():
    from datamill._classes.parser import OpenMSIStreamArgumentParser

    with pytest.raises(ValueError, match="update_seconds"):
        OpenMSIStreamArgumentParser().add_arguments(update_seconds="often")
    with pytest.raises(ValueError, match="no argument `nothing`"):
        OpenMSIStreamArgumentParser().add_arguments("nothing")


def test_values_are_checked():
    from argparse import ArgumentTypeError

    from datamill._classes import parser_types as types

    assert types.logger_string_to_level("Info") == logging.INFO
    assert types.int_power_of_two("8") == 8 and types.positive_float("0.5") == 0.5
    assert types.detect_bucket_name("s3://bucket/") == "bucket"
    for check, word in [
        (types.positive_int, "0"),
        (types.positive_int, "x"),
        (types.int_power_of_two, "6"),
        (types.logger_string_to_level, "loud"),
        (types.existing_file, "/nowhere"),
        (types.existing_dir, "/nowhere"),
        (types.config_path, "nowhere"),
    ]:
        with pytest.raises(ArgumentTypeError, match=word):
            check(word)


def test_a_configuration_is_found_by_its_name(tmp_path, monkeypatch):
    from datamill._classes.run_const import find_config

    (tmp_path / "folder").mkdir()
    (tmp_path / "here.config").touch()
    (tmp_path / "folder" / "lab.config").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENMSISTREAM_CONFIG_FILE_DIR", str(tmp_path / "folder"))
    assert find_config("here") == (tmp_path / "here.config").resolve()
    assert find_config("lab") == (tmp_path / "folder" / "lab.config").resolve()


# ---- the logger


def test_lines_have_the_name_the_time_and_the_level(tmp_path, capsys):
    from datamill._classes.logger import OpenMSILogger

    log = tmp_path / "LOGS" / "program.log"
    logger = OpenMSILogger("Program", logging.INFO, log, logging.WARNING)
    logger.debug("not shown")
    logger.info("%d files", 3)
    logger.info("\nbelow")
    logger.warning("odd")
    logger.warning("WARNING: odd already")
    logger.error("100 % wrong")
    text = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", capsys.readouterr().err)
    assert text.splitlines() == [
        "[Program TIME] 3 files",
        "",
        "[Program TIME] below",
        "[Program TIME] WARNING: odd",
        "[Program TIME] WARNING: odd already",
        "[Program TIME] ERROR: 100 % wrong",
    ]
    assert log.read_text().count("\n") == 3


def test_an_error_can_be_raised_again(capsys):
    from datamill._classes.logger import OpenMSILogger

    logger = OpenMSILogger("Program")
    with pytest.raises(KeyError):
        logger.error("gone", exc_type=KeyError)
    with pytest.raises(ZeroDivisionError):
        try:
            1 / 0
        except ZeroDivisionError as error:
            logger.error("no", exc_info=error, reraise=True)
    logger.warning("with traceback", exc_info=ValueError("inner"))
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_two_loggers_of_one_name_write_each_line_once(capsys):
    from datamill._classes.logger import OpenMSILogger

    first, second = OpenMSILogger("Program"), OpenMSILogger("Program", logging.ERROR)
    first.info("once")
    second.info("not at all")
    assert capsys.readouterr().err.count("\n") == 1
    second.set_stream_level(logging.INFO)
    assert second.get_stream_level() == logging.INFO


def test_lines_reach_the_handlers_of_the_program(caplog):
    from datamill._classes.logger import OpenMSILogger

    OpenMSILogger("Program").info("for everybody")
    assert "for everybody" in caplog.text


# ---- small things


def test_a_thread_keeps_its_exception():
    from datamill._classes.threads import ExceptionTrackingThread

    thread = ExceptionTrackingThread(target=lambda: 1 / 0)
    thread.start()
    with pytest.raises(ZeroDivisionError):
        thread.join()
    assert isinstance(thread.caught_exception, ZeroDivisionError)


def test_a_message_has_a_value_by_argument_or_by_property():
    from datamill import ReproducerMessage

    class File:
        subdir_str, filename, relative_filepath, n_total_chunks = "a/b", "c.txt", Path("a/b/c.txt"), 2

    message = ReproducerMessage(File(), b"value")
    assert (message.msg_key, message.msg_value) == ("a_b_c.txt_chunk_processing_result", b"value")
    assert message.callback_kwargs["n_total_chunks"] == 2
    with pytest.raises(ValueError, match="msg_value"):
        ReproducerMessage(File()).msg_value
