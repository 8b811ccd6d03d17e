"""Dictionaries as results of a function: what arrives, what fails, and what is told of it."""

import csv
import secrets

import numpy as np
import pytest

import datamill


class Opaque:
    value = 3


@pytest.fixture
def run(log, tmp_path, capsys):
    """Runs a function on files of these names. Gives results and reasons by file, and the lines on stderr."""
    topics = {"consumer_topic_name": log.topic("dicts"), "producer_topic_name": log.topic("json")}
    output, group = tmp_path / "output", log.group("dicts")

    def reproduce(function, names, **options):
        source = tmp_path / "source"
        source.mkdir()
        for name in names:
            (source / name).write_bytes(name.encode())
        log.program("upload", source, "--topic_name", topics["consumer_topic_name"])
        datamill.reproduce(
            function, **topics, config=log.config, output_dir=output, consumer_group_id=group, max_attempts=1,
            exit_at_end=True, **options,
        )  # fmt: skip
        results = {result["file"]: result for result in log.results(topics["producer_topic_name"])}
        reasons = {}
        for table in (output / "LOGS").glob("failed_from_*.csv"):
            with open(table, newline="", encoding="utf-8") as rows:
                reasons |= {row["rel_filepath"]: row["reason"] for row in csv.DictReader(rows, delimiter=";")}
        return results, reasons, capsys.readouterr().err

    return reproduce


def test_a_dictionary_of_numpy_arrives_and_one_without_a_rule_fails_its_file_with_path_class_and_remedy(run):
    def metadata(file):
        found = {"file": file.filename, "shape": np.zeros((2, 3), ">f4").shape, "mean": np.float32(0.5), "raw": b"\xff"}
        match file.filename:
            case "opaque":
                found["Well"] = [Opaque()]
            case "twice":
                found |= {1: "a", "1": "b"}
            case "within":
                found["self"] = found
            case "nan":
                found["x"] = np.array([1, np.nan, np.inf])
        return found

    results, reasons, said = run(metadata, ["good", "opaque", "twice", "within", "nan"])
    good = {"file": "good", "shape": [2, 3], "mean": 0.5, "raw": {"base64": "/w=="}}
    assert results == {"good": good, "nan": good | {"file": "nan", "x": [1.0, None, None]}}
    assert reasons.keys() == {"opaque", "twice", "within"}
    assert 'metadata["Well"][0]: `test_to_json_results.Opaque` cannot be written as JSON; return its `.value`' in reasons["opaque"]
    assert "`int` and `str` are both written as" in reasons["twice"]
    assert "the value is one of the objects around it" in reasons["within"]
    [line] = [line for line in said.splitlines() if "written as null" in line]
    assert "values=2" in line and "nan" in line


def test_nan_fails_its_file_where_that_is_asked_for(run):
    def metadata(file):
        return {"file": file.filename, "x": [1.0, float("nan" if file.filename == "nan" else "2")]}

    results, reasons, _ = run(metadata, ["good", "nan"], nan="error")
    assert results == {"good": {"file": "good", "x": [1.0, 2.0]}}
    assert 'metadata["x"][1]: the value is NaN' in reasons["nan"]


def test_a_result_that_the_topic_does_not_take_fails_its_file_and_its_largest_entry_is_named(run):
    def metadata(file):
        found = {"file": file.filename, "scan": {"step": 0.1}}
        if file.filename == "huge":
            found["scan"]["angles"] = secrets.token_hex(35_000_000)
        return found

    results, reasons, _ = run(metadata, ["good", "huge"])
    assert results == {"good": {"file": "good", "scan": {"step": 0.1}}}
    assert " takes " in reasons["huge"]
    assert reasons["huge"].endswith('; the result has 70.0 MB, its largest entry `metadata["scan"]["angles"]` has 70.0 MB')
