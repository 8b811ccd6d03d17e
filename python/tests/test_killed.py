"""Programs of users that are killed: no result is lost, and none is there twice."""

import collections
import hashlib
import pathlib
import random
import signal
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
FILES = 1000
KILLS = 6


def test_a_program_that_is_killed_again_and_again_has_one_result_for_each_file(log, tmp_path):
    files, results, group = log.topic("killed"), log.topic("digests"), log.group("killed")
    chance = random.Random(20)
    expected = {}
    source = tmp_path / "source"
    for number in range(FILES):
        # some are of several chunks, so that a kill finds files that are only partly there
        content = chance.randbytes(chance.choice([10, 3_000, 300_000]) if number % 20 == 0 else 2_000)
        path = source / f"{number % 7}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        expected[f"{number % 7}/{number}.bin"] = hashlib.sha512(content).hexdigest()
    log.program("upload", source, "--topic_name", files, "--chunk_size", "65536")

    words = [
        sys.executable, HERE / "killed.py", "--consumer_topic_name", files, "--producer_topic_name", results,
        "--config", log.config, "--consumer_group_id", group, "--output_dir", "output", "--exit-at-end",
    ]
    calls, said = tmp_path / "calls", tmp_path / "said"
    calls.touch()
    with said.open("ab") as out:
        killed = 0
        for _ in range(KILLS):
            # It dies while it works: after so many calls and a moment.
            enough = calls.stat().st_size + chance.randrange(1, 150)
            running = subprocess.Popen(words, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
            try:
                while calls.stat().st_size < enough and running.poll() is None:
                    time.sleep(0.001)
                time.sleep(chance.uniform(0, 0.01))
            finally:
                running.kill()
            killed += running.wait() == -signal.SIGKILL
        assert killed >= KILLS // 2, said.read_text()
        last = subprocess.run(words, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=600)
    assert last.returncode == 0, said.read_text()

    found = collections.defaultdict(list)
    for result in log.results(results):
        found[result["path"]].append(result["sha512"])
    assert len(expected) == FILES
    assert {path for path, of_path in found.items() if len(of_path) > 1} == set(), "doubled"
    assert expected.keys() - found.keys() == set(), "lost"
    assert {path: of_path[0] for path, of_path in found.items()} == expected
