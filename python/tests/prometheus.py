"""A real Prometheus, which scrapes what a test runs."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import urllib.parse
import urllib.request
from typing import Any

from conftest import ROOT, named
from work import until

#: The examples of the documentation.
EXAMPLES = ROOT / "examples" / "monitoring"


def tool(*words: str | pathlib.Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs `promtool`."""
    program = pathlib.Path(named("DATAMILL_TEST_PROMETHEUS")) / "promtool"
    return subprocess.run([program, *words], capture_output=True, text=True, check=False, **options)


class Prometheus:
    """Scrapes one address each second, with the examples' configuration and rules."""

    def __init__(self, folder: pathlib.Path, address: str) -> None:
        folder.mkdir()
        config = (EXAMPLES / "prometheus.yml").read_text()
        for example, here in (("scrape_interval: 15s", "scrape_interval: 1s"), ("localhost:9400", address)):
            assert example in config
            config = config.replace(example, here)
        (folder / "prometheus.yml").write_text(config)
        (folder / "alerts.yml").write_bytes((EXAMPLES / "alerts.yml").read_bytes())
        checked = tool("check", "config", folder / "prometheus.yml")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        self._log = folder / "log"
        program = pathlib.Path(named("DATAMILL_TEST_PROMETHEUS")) / "prometheus"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [program, f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}",
                 "--web.listen-address=127.0.0.1:0"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )

    def __enter__(self) -> Prometheus:
        found = until(self._listens, "that Prometheus listens")
        self._url = f"http://{found[1]}/api/v1/"
        until(lambda: self._is_ready(f"http://{found[1]}/-/ready"), "that Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def _listens(self) -> re.Match[str] | None:
        text = self._log.read_text(errors="replace")
        assert self._process.poll() is None, text
        return re.search(r'msg="TLS is disabled\." .*address=(127\.0\.0\.1:[1-9]\d*)', text)

    @staticmethod
    def _is_ready(url: str) -> bool:
        try:
            with urllib.request.urlopen(url, timeout=60):
                return True
        except OSError:
            # one that has begun to listen answers 503 for a moment
            return False

    def _ask(self, path: str, **parameters: str) -> Any:
        url = self._url + path + "?" + urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)["data"]

    def series(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """What an expression is now: labels and value of each series."""
        found = self._ask("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in found]

    def value(self, expression: str) -> float | None:
        """The value of an expression that is one series, or none."""
        found = self.series(expression)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def rules(self) -> list[dict[str, Any]]:
        """The alert rules, as Prometheus read them."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]
