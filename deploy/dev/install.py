"""Make .venv from requirements.lock:   python3 deploy/dev/install.py

Runs before anything is installed, so it needs nothing but Python, and says in one line what is missing.  It is kept
readable for old Pythons, which have to get as far as being told that they are too old.
"""

from __future__ import annotations

import importlib.util
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
VENV = ROOT / ".venv"
OLDEST_PYTHON = (3, 11)
LEAST_FREE_BYTES = 3_000_000_000
_SECONDS_BETWEEN_LINES = 10.0
_PINNED = re.compile(r"^[\w.-]+(?:\[.*\])?==", re.MULTILINE)
_PACKAGE = re.compile(r"(?:Collecting|Processing|Requirement already satisfied:) (?:\S*/)?([\w.]+?)(?:[=\[\s-]|$)")
_DOWNLOAD = re.compile(r"\s+Downloading (?:\S*/)?([\w.]+)-.* \(([\d.]+ [kMG]B)\)")


class CannotInstall(Exception):
    """Somebody at the terminal has to do something; the text is one line and says what."""


class Progress:
    """Follows what pip says: one line that is rewritten on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self.problem = ""
        self._total = total
        self._packages = 0
        self._doing = "asking for packages"
        self._started = time.monotonic()
        self._shown_at = 0.0

    def hear(self, line: str) -> None:
        """Take note of one line of pip's."""
        package, download = _PACKAGE.match(line), _DOWNLOAD.match(line)
        if package:
            self._packages += 1
            self._doing = package.group(1)
        elif download:
            self._doing = f"{download.group(1)}, {download.group(2)}"
        elif line.startswith("Installing collected packages"):
            self._doing = "unpacking"
        elif line.startswith("ERROR: "):
            self.problem = line[len("ERROR: ") :]

    def show(self) -> None:
        """Say where pip is, unless that was said a moment ago."""
        now = time.monotonic()
        text = f"Installing: {min(self._packages, self._total)} of {self._total} packages ({self._doing})"
        text += f" {now - self._started:.0f} s"
        if sys.stdout.isatty():
            print(f"\r{text[:100]:<100}", end="", flush=True)
        elif now - self._shown_at >= _SECONDS_BETWEEN_LINES:
            self._shown_at = now
            print(text, flush=True)

    def finish(self) -> None:
        if sys.stdout.isatty():
            print(f"\r{'':<100}\r", end="")


def main() -> int:
    """Return the exit code."""
    try:
        check_python()
        check_disk()
        make_venv()
        install()
    except CannotInstall as problem:
        print(f"maskmill: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmaskmill: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def check_python() -> None:
    """Refuse a Python that is too old or cannot make virtual environments."""
    if sys.version_info < OLDEST_PYTHON:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise CannotInstall(f"this is Python {found}, and 3.11 or newer is needed; name one, as in PYTHON=python3.11")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise CannotInstall("this Python lacks its venv module; on Debian and Ubuntu: apt install python3-venv")


def check_disk() -> None:
    """Refuse to begin what cannot be finished."""
    free = shutil.disk_usage(str(ROOT)).free
    if free < LEAST_FREE_BYTES and not (VENV / "install.log").exists():
        raise CannotInstall(f"{ROOT} has {free / 1e9:.1f} GB of disk left; {LEAST_FREE_BYTES / 1e9:.0f} GB are needed")


def make_venv() -> None:
    """Create the virtual environment unless it is there and works."""
    if (VENV / "bin" / "python").exists() and _run([_python(), "-m", "pip", "--version"]).returncode == 0:
        return
    print(f"Making {VENV.name} ...", flush=True)
    made = _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if made.returncode != 0:
        last_words = (made.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise CannotInstall(f"the virtual environment could not be made: {last_words}")


def install() -> None:
    """Let pip install what is locked, and show how far it is."""
    log = VENV / "install.log"
    progress = Progress(total=len(_PINNED.findall(LOCK.read_text())))
    started = time.monotonic()
    command = [_python(), "-m", "pip", "install", "--progress-bar=off", "--no-input", "-r", str(LOCK)]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        _follow(pip, progress, log)
    finally:
        pip.terminate()
        progress.finish()
    if pip.wait() != 0:
        raise CannotInstall(f"pip failed: {progress.problem or 'no reason given'} (its whole output: {log})")
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def _follow(pip: subprocess.Popen[str], progress: Progress, log: Path) -> None:
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_pump, args=(pip, lines), daemon=True).start()
    with log.open("w") as copy:
        while True:
            try:
                line = lines.get(timeout=1.0)
            except queue.Empty:
                progress.show()
                continue
            if line is None:
                pip.wait()
                return
            copy.write(line)
            progress.hear(line.rstrip())
            progress.show()


def _pump(pip: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in pip.stdout or ():
        lines.put(line)
    lines.put(None)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _python() -> str:
    return str(VENV / "bin" / "python")


if __name__ == "__main__":
    sys.exit(main())
