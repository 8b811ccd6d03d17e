"""Measures what importing datamill takes, in turn with an empty interpreter.

    dev/python python bench/import_time.py [TURNS]
"""

import statistics
import subprocess
import sys
import time

TURNS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
WORDS = {"empty interpreter": "pass", "import datamill": "import datamill"}

seconds: dict[str, list[float]] = {name: [] for name in WORDS}
for turn in range(TURNS + 1):
    for name, code in WORDS.items():
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        # the first turn fills the caches of the system
        if turn > 0:
            seconds[name].append(time.perf_counter() - begin)
for name, of_name in seconds.items():
    print(f"{name:<18} median {statistics.median(of_name) * 1000:6.1f} ms, least {min(of_name) * 1000:6.1f} ms of {TURNS}")
more = statistics.median(seconds["import datamill"]) - statistics.median(seconds["empty interpreter"])
print(f"datamill takes {more * 1000:.1f} ms more")
