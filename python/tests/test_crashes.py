"""Functions that end the process: the file that does it is found, and all others have their result."""

import pathlib
import signal
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
MOST_STARTS = 12


def supervise(words, folder, ends):
    """Starts the program again until it ends by itself. Gives the number of deaths and what was said."""
    said = ""
    for deaths in range(MOST_STARTS):
        done = subprocess.run(
            words, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False
        )
        said += done.stderr
        if done.returncode in (0, 1):
            return deaths, done.returncode, said
        assert done.returncode == ends, said
    pytest.fail(f"{MOST_STARTS} starts were not enough: {said}")


@pytest.mark.parametrize(
    ("how", "ends", "n_files"), [("segfault", -signal.SIGSEGV, 1000), ("exit", 9, 100), ("hang", 5, 100)]
)
def test_one_file_that_ends_the_process_fails_and_all_others_have_one_result(log, tmp_path, how, ends, n_files):
    files, results, group = log.topic("crash"), log.topic("sizes"), log.group("crash")
    source = tmp_path / "source"
    source.mkdir()
    names = ["bad.dat" if number == n_files // 2 else f"{number}.dat" for number in range(n_files)]
    for name in names:
        (source / name).write_text(name)
    log.program("upload", source, "--topic_name", files)
    words = [
        sys.executable, HERE / "crashes.py", how, "--consumer_topic_name", files, "--producer_topic_name", results,
        "--config", log.config, "--consumer_group_id", group, "--output_dir", "output", "--n_threads", "4",
        "--exit-at-end",
    ]
    if how == "hang":
        words += ["--processing_timeout", "3"]
    deaths, code, said = supervise(words, tmp_path, ends)
    assert (code, (tmp_path / "calls").read_text().split()) == (1, [how] * 3), said
    assert deaths >= 3, said
    assert sorted(result["path"] for result in log.results(results)) == sorted(set(names) - {"bad.dat"})
    failed = next((tmp_path / "output" / "LOGS").glob("failed_from_*.csv")).read_text().splitlines()[1:]
    assert len(failed) == 1, failed
    assert "bad.dat" in failed[0]
    assert "ended_the_program" in failed[0]
    assert "3 times" in failed[0]
    if how == "hang":
        assert "crashes.py" in said, "the traceback says where it hangs"
        assert "did not end for `bad.dat`" in said
        assert "Ctrl-C" not in said, "nobody has pressed it"
