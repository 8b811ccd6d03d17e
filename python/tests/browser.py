"""A Chromium without a window, which the tests steer through two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
from typing import Any

from conftest import named
from work import until


class Browser:
    """A page in a browser of the test's own."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp()
        commands, self._commands = os.pipe()
        answers, theirs = os.pipe()

        def take_pipes() -> None:
            # it reads what is asked at 3 and answers at 4, which may be the numbers of the pipes themselves
            high = [fcntl.fcntl(pipe, fcntl.F_DUPFD, 100) for pipe in (commands, theirs)]
            for number, pipe in zip((3, 4), high):
                os.dup2(pipe, number)

        program = pathlib.Path(named("DATAMILL_TEST_CHROMIUM")) / "chromium"
        # the tests run as root in containers, where Chromium's own sandbox cannot be made; it opens pages of ours alone
        words = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            [program, *words, f"--user-data-dir={self._profile}", "about:blank"],
            preexec_fn=take_pipes, close_fds=False, start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(theirs)
        self._answers = os.fdopen(answers, "rb")
        self._number = 0
        self._rest = b""
        self._session: str | None = None
        #: What the page complained of.
        self.complaints: list[Any] = []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        # it has processes of its own, all in the session that it was started in
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        self._answers.close()
        until(self._is_removed, "that the browser's processes no longer write to its profile")

    def _is_removed(self) -> bool:
        shutil.rmtree(self._profile, ignore_errors=True)
        return not os.path.exists(self._profile)

    def ask(self, method: str, **params: Any) -> Any:
        """Asks the browser for something, in the words of its protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self._commands, text):]
        while True:
            answer = self._answer()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            entry = answer.get("params", {}).get("entry", {})
            if answer.get("method") == "Runtime.exceptionThrown" or entry.get("level") == "error":
                self.complaints.append(answer["params"])

    def _answer(self) -> Any:
        while b"\0" not in self._rest:
            read = os.read(self._answers.fileno(), 1 << 20)
            assert read, "the browser has ended"
            self._rest += read
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def value(self, expression: str) -> Any:
        """What an expression of JavaScript is in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, url: str) -> None:
        """Opens a page, and waits until it is there."""
        self.ask("Page.navigate", url=url)
        until(lambda: self.value("document.readyState") == "complete", f"page {url}")

    def be(self, width: int, scheme: str) -> None:
        """Is a screen of this width, with colours that are `light` or `dark`."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600)
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: pathlib.Path) -> None:
        """Writes what is seen to a file, for whoever looks into a failure."""
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
