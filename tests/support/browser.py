"""A headless Chromium that loads one page, driven by its DevTools protocol over a pipe; no library is needed."""

import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--no-zygote",
    "--single-process",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)


class Page:
    """A page of a running browser."""

    def __init__(self, commands: int, answers: int) -> None:
        """Take the file descriptors of the pipe."""
        self._commands = commands
        self._answers = answers
        self._received = b""
        self._number = 0
        self._session = ""

    def load(self, url: str, *, seconds: float) -> str:
        """Return the document `seconds` after a page was opened; its scripts run meanwhile."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Page.navigate", url=url)
        deadline = time.monotonic() + seconds
        document = ""
        while time.monotonic() < deadline:
            document = self.evaluate("document.documentElement.outerHTML")
            time.sleep(0.1)
        return document

    def evaluate(self, expression: str) -> str:
        """Return the text that an expression of JavaScript gives in the page."""
        found = self._call("Runtime.evaluate", expression=expression)
        return str(found["result"].get("value", ""))

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        command = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        os.write(self._commands, json.dumps(command).encode() + b"\0")
        while (message := self._receive()).get("id") != self._number:
            pass
        return message.get("result", {})

    def _receive(self) -> Any:
        while b"\0" not in self._received:
            chunk = os.read(self._answers, 1 << 16)
            assert chunk, "the browser has ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)


@contextmanager
def open_page(browser: str, profile: Path, *arguments: str) -> Iterator[Page]:
    """Run a browser; its profile is a new folder."""
    (their_commands, commands), (answers, their_answers) = os.pipe(), os.pipe()
    command = [browser, *ARGUMENTS, f"--user-data-dir={profile}", *arguments]
    # The protocol's pipe has to be at these two numbers.
    script = f"exec {shlex.join(command)} 3<&{their_commands} 4>&{their_answers}"
    output = subprocess.DEVNULL
    with subprocess.Popen(
        ["bash", "-c", script], pass_fds=(their_commands, their_answers), stdout=output, stderr=output
    ) as process:
        os.close(their_commands)
        os.close(their_answers)
        try:
            yield Page(commands, answers)
        finally:
            process.kill()
            os.close(commands)
            os.close(answers)
