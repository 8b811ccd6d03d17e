"""The status page of a program in Python, as a real browser shows it."""

from __future__ import annotations

import re
import signal
import urllib.request

import pytest
from browser import Browser
from work import Started, Work, until

# fails for what has no header, and waits for a file whose name says so
PROGRAM = """
    import datamill, pathlib, time

    def function(file):
        while file.filename.startswith("slow") and not pathlib.Path("go").exists():
            time.sleep(0.02)
        if not file.bytestring.startswith(b"header"):
            raise ValueError("no <b>header</b> in the file")
        return {"size": file.size}

    datamill.reproduce(function)
    """

#: Names that are markup, write from right to left, and are longer than a line.
NAMES = ["<img src=x onerror=alert(1)>.txt", "'\"&amp;.txt", "a\u202egpj.exe", "scan_" + "x" * 200 + ".csv", "\u00d6l/\u6e2c\u5b9a.csv"]

#: The numbers of the page, as they are.
NUMBERS = """Object.fromEntries([...document.querySelectorAll("#numbers div")].map(
    (box) => [box.id, Number(box.querySelector("data")?.value)]))"""

#: What it says of the lag.
LAG = "document.querySelector('#lag')?.innerText ?? ''"

#: Of each text its contrast to what is behind it, as WCAG counts it.
CONTRASTS = """(() => {
    const parts = (colour) => colour.match(/[\\d.]+/g).map(Number);
    const light = (colour) => parts(colour).slice(0, 3).map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const colour = getComputedStyle(e).backgroundColor;
            if (parts(colour)[3] !== 0) return colour;
        }
        return "rgb(255, 255, 255)";
    };
    return [...document.querySelectorAll("h1, h2, p, dt, dd, th, td, pre, a, summary")].map((element) => {
        const both = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
        return [(both[0] + 0.05) / (both[1] + 0.05), element.outerHTML.slice(0, 80)];
    });
})()"""


def served(started: Started) -> str:
    """Where a program serves its status."""
    started.said("the status is served")
    found = re.search(r"url=(http://\S+/)", started.text())
    assert found, started.text()
    return found[1]


@pytest.fixture
def browser():
    """A browser of the test's own."""
    with Browser() as opened:
        yield opened


def test_every_number_of_the_page_is_that_of_the_topic_at_each_width_and_in_each_colour(work: Work, browser: Browser):
    good = {name: b"header " + bytes(number) for number, name in enumerate(NAMES)}
    work.upload({**good, "bad/first.txt": b"nothing", "bad/second.txt": b"nothing"})
    with work.start(PROGRAM, status_listen=0, exit_at_end=False) as started:
        browser.be(1280, "light")
        browser.open(served(started))
        until(lambda: browser.value(NUMBERS)["done"] == len(good), "all results on the page")
        until(lambda: browser.value(NUMBERS)["failed"] == 2, "both failures on the page")
        results = work.read()
        assert set(results) == set(good)
        numbers = browser.value(NUMBERS)
        assert (numbers["incomplete"], numbers["waiting"], numbers["in-hand"], numbers["filling"]) == (0, 0, 0, 0)
        until(lambda: "has its outcome" in browser.value(LAG), "no lag")
        last = browser.value("""[...document.querySelectorAll("#last tbody tr")].map(
            (row) => [row.cells[0].textContent, row.cells[1].textContent, Number(row.cells[2].querySelector("data").value)])""")
        shown = {name: (outcome, size) for name, outcome, size in last}
        assert len(last) == len(good) + 2
        assert {name: shown.get(name) for name in good} == {name: ("done", len(content)) for name, content in good.items()}
        failures = browser.value("document.querySelector('#failures').innerText")
        assert "bad/first.txt" in failures and "no <b>header</b> in the file" in failures
        assert f"retry --topic_name {work.files} --consumer_group_id {work.files}" in failures
        # a name is never markup
        assert browser.value("document.querySelectorAll('img, #shown b > *').length") == 0

        for width in (390, 1280):
            for scheme in ("light", "dark"):
                browser.be(width, scheme)
                where = f"{width} wide, {scheme}"
                browser.picture(work.folder / f"{width}-{scheme}.png")
                assert browser.value("document.documentElement.scrollWidth <= innerWidth"), where
                ground = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
                assert (sum(ground) > 600) == (scheme == "light"), where
                poor = [text for contrast, text in browser.value(CONTRASTS) if contrast < 4.5]
                assert not poor, (where, poor)

        # it is live, and nothing comes from elsewhere
        browser.value("window.same = true")
        work.upload({"later.txt": b"header"})
        until(lambda: browser.value(NUMBERS)["done"] == len(good) + 1, "the later file on the page")
        assert browser.value("window.same") is True
        loaded = browser.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
        assert loaded and all(name.startswith(served(started)) for name in loaded), loaded
        assert browser.complaints == []
        started.process.send_signal(signal.SIGINT)
        started.end()
        until(lambda: "does not answer" in browser.value("document.querySelector('#link').textContent"), "that it has ended")


def test_the_page_says_in_words_what_the_program_does(local: Work, browser: Browser):
    local.upload({"slow.txt": b"header"})
    with local.start(PROGRAM, status_listen=0, exit_at_end=False) as started:
        browser.open(served(started))
        words = "document.querySelector('#now .words').textContent"
        until(lambda: browser.value(words) == "working on 1 file", "what it does")
        until(lambda: "1 file that was read has no outcome yet" in browser.value(LAG), "the lag")
        (local.folder / "go").touch()
        until(lambda: browser.value(words) == "waiting for files", "that it waits")
        until(lambda: urllib.request.urlopen(served(started) + "readyz").read() == b"ready\n", "that it is ready")
        started.process.send_signal(signal.SIGINT)
        assert started.end() == 0, started.text()


def test_an_address_that_is_taken_is_told_at_the_start(local: Work):
    import datamill

    local.upload({"a": b"x"})
    with local.start(PROGRAM, status_listen=0, exit_at_end=False) as started:
        port = int(served(started).rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(datamill.SetUpError, match="status_listen"):
            local.reproduce(lambda file: "", status_listen=port, consumer_group_id="other", output_dir=local.folder / "other")
