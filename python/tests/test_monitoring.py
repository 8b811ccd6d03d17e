"""A real Prometheus reads the metrics of a program, and answers what the examples of `examples/monitoring` ask."""

from __future__ import annotations

import json
import re
import urllib.request

from prometheus import EXAMPLES, Prometheus, tool
from test_status import PROGRAM, served
from work import Work, until


def expressions(prometheus: Prometheus) -> list[str]:
    """All that the rules and the dashboard ask, without the limit at which a rule fires, which mostly answers nothing."""
    asked = [re.sub(r"\s*(==|>|<)\s*[\d.]+$", "", rule["query"]) for rule in prometheus.rules()]
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    targets = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    for variable, value in (("$__rate_interval", "1m"), ("$instance", ".*")):
        targets = [target.replace(variable, value) for target in targets]
    assert len(asked) >= 9 and len(targets) >= 10 and not any("$" in target for target in targets)
    return asked + targets


def test_a_prometheus_sees_the_lag_fall_and_answers_every_expression_of_the_examples(work: Work):
    held = {f"slow{number}.txt": b"header" for number in range(20)}
    work.upload({**held, "bad.txt": b"nothing"})
    # a thread for each file: the one that fails waits for no other
    with work.start(PROGRAM, status_listen=0, exit_at_end=False, n_consumer_threads=32) as started:
        url = served(started)
        for accept in ("text/plain", "application/openmetrics-text"):
            asked = urllib.request.Request(url + "metrics", headers={"Accept": accept})
            with urllib.request.urlopen(asked) as answer:
                assert answer.headers["Content-Type"].startswith(accept)
                metrics = answer.read().decode()
            if accept == "text/plain":
                checked = tool("check", "metrics", input=metrics)
                assert checked.returncode == 0 and not checked.stderr.strip(), checked.stderr
        address = url.removeprefix("http://").rstrip("/")
        with Prometheus(work.folder / "prometheus", address) as prometheus:
            until(lambda: prometheus.value('up{job="datamill"}') == 1, "a scrape")
            files = 'sum(datamill_files_total{outcome="%s"})'
            until(lambda: prometheus.value(files % "failed") == 1, "the failure")
            until(lambda: prometheus.value("sum(datamill_lag_files)") == len(held), "all files that wait")
            assert prometheus.value("sum(datamill_lag_messages)") == len(held)
            assert (prometheus.value("max(datamill_lag_seconds)") or 0) > 0
            (work.folder / "go").touch()
            until(lambda: prometheus.value(files % "done") == len(held), "all results")
            for lag in ("messages", "files", "bytes", "seconds"):
                until(lambda: prometheus.value(f"sum(datamill_lag_{lag})") == 0, f"no lag in {lag}")
            assert len(work.read()) == len(held)
            for expression in expressions(prometheus):
                until(lambda: prometheus.series(expression), f"an answer to `{expression}`")
            broken = [rule for rule in prometheus.rules() if rule["health"] == "err"]
            assert not broken, broken
