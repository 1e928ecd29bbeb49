"""Make .venv from requirements.lock and torch.lock:   python3 deploy/dev/install.py

Every package but torch is compared with its hashes in the lock.  torch comes from one index alone: from the variable
TORCH_INDEX, or from what pip is configured with.

Runs before anything is installed, so it needs only Python, and reports in one line what is missing.  Its syntax is that
of old Python versions too, so that they can run it far enough to report that they are too old.
"""

from __future__ import annotations

import importlib.util
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "requirements.lock"
TORCH_LOCK = ROOT / "torch.lock"
VENV = ROOT / ".venv"
MIN_PYTHON = (3, 11)
MIN_FREE_BYTES = 3_000_000_000
_LINE_INTERVAL_SECONDS = 10.0
# Settings of pip by which other indexes and links would take part.
_MIXING = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX")
_PINNED = re.compile(r"^[\w.-]+(?:\[.*\])?==", re.MULTILINE)
_PACKAGE = re.compile(r"(?:Collecting|Processing|Requirement already satisfied:) (?:\S*/)?([\w.]+?)(?:[=\[\s-]|$)")
_DOWNLOAD = re.compile(r"\s+Downloading (?:\S*/)?([\w.]+)-.* \(([\d.]+ [kMG]B)\)")


class CannotInstall(Exception):
    """A condition that the user can correct; the text is one line and says how."""


class Progress:
    """Parses the output of pip and shows its progress: one rewritten line on a terminal, else a line every 10 s."""

    def __init__(self, total: int) -> None:
        self.problem = ""
        self._total = total
        self._packages = 0
        self._activity = "resolving packages"
        self._started = time.monotonic()
        self._shown_at = 0.0

    def parse(self, line: str) -> None:
        """Update the state from one line of pip's output."""
        package, download = _PACKAGE.match(line), _DOWNLOAD.match(line)
        if package:
            self._packages += 1
            self._activity = package.group(1)
        elif download:
            self._activity = f"{download.group(1)}, {download.group(2)}"
        elif line.startswith("Installing collected packages"):
            self._activity = "unpacking"
        elif line.startswith("ERROR: "):
            self.problem = line[len("ERROR: ") :]

    def show(self) -> None:
        """Print the state; outside a terminal, only if the last print is long enough ago."""
        now = time.monotonic()
        text = f"Installing: {min(self._packages, self._total)} of {self._total} packages ({self._activity})"
        text += f" {now - self._started:.0f} s"
        if sys.stdout.isatty():
            print(f"\r{text[:100]:<100}", end="", flush=True)
        elif now - self._shown_at >= _LINE_INTERVAL_SECONDS:
            self._shown_at = now
            print(text, flush=True)

    def finish(self) -> None:
        if sys.stdout.isatty():
            print(f"\r{'':<100}\r", end="")


def main() -> int:
    """Install, and return the exit code."""
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
    """Check the version of Python, and that it can make virtual environments.

    Raises:
        CannotInstall: one of the two is not so.
    """
    if sys.version_info < MIN_PYTHON:
        found = ".".join(str(part) for part in sys.version_info[:3])
        raise CannotInstall(f"this is Python {found}, and 3.11 or newer is needed; name one, as in PYTHON=python3.11")
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise CannotInstall("this Python lacks its venv module; on Debian and Ubuntu: apt install python3-venv")


def check_disk() -> None:
    """Check that the disk has space for the packages.

    Raises:
        CannotInstall: less is free than MIN_FREE_BYTES.
    """
    free = shutil.disk_usage(str(ROOT)).free
    if free < MIN_FREE_BYTES and not (VENV / "install.log").exists():
        raise CannotInstall(f"{ROOT} has {free / 1e9:.1f} GB of disk left; {MIN_FREE_BYTES / 1e9:.0f} GB are needed")


def make_venv() -> None:
    """Create the virtual environment unless it exists and its pip runs.

    Raises:
        CannotInstall: venv failed.
    """
    if (VENV / "bin" / "python").exists() and _run([_venv_python(), "-m", "pip", "--version"]).returncode == 0:
        return
    print(f"Making {VENV.name} ...", flush=True)
    made = _run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    if made.returncode != 0:
        last_line = (made.stdout.strip().splitlines() or ["no reason given"])[-1]
        raise CannotInstall(f"the virtual environment could not be made: {last_line}")


def install() -> None:
    """Install the locked packages with pip, and show its progress.

    Raises:
        CannotInstall: pip failed; the text holds its last error.
    """
    started = time.monotonic()
    locks = LOCK.read_text() + TORCH_LOCK.read_text()
    progress = Progress(total=len(_PINNED.findall(locks)))
    with (VENV / "install.log").open("w") as log:
        for arguments, environment in plan_steps(os.environ.get("TORCH_INDEX", "")):
            run_pip(arguments, environment, progress, log)
    print(f"Installed in {time.monotonic() - started:.0f} s.", flush=True)


def plan_steps(torch_index: str) -> list[tuple[list[str], dict[str, str]]]:
    """Return the arguments of each call of pip, and its environment.

    The packages that torch requires are in the lock and installed before it, so the second step adds torch itself, and
    for a CUDA build its libraries.

    Args:
        torch_index: URL of the index with torch's build; empty means pip's own configuration.
    """
    options = ["--progress-bar=off", "--no-input"]
    environment = dict(os.environ)
    torch_environment = dict(environment)
    index: list[str] = []
    removal: list[tuple[list[str], dict[str, str]]] = []
    if torch_index:
        index = ["--index-url", torch_index]
        # To pip, an installed build of the same version is as good as any other.
        removal = [(["uninstall", "--yes", "torch"], environment)]
        for name in _MIXING:
            torch_environment.pop(name, None)
        torch_environment["PIP_CONFIG_FILE"] = os.devnull
    return [
        (["install", *options, "--require-hashes", "--no-deps", "--requirement", str(LOCK)], environment),
        *removal,
        (["install", *options, *index, "--requirement", str(TORCH_LOCK)], torch_environment),
        # The lock was installed without looking at dependencies.
        (["check"], environment),
    ]


def run_pip(arguments: list[str], environment: dict[str, str], progress: Progress, log: TextIO) -> None:
    """Call the environment's pip, show its progress and append its output to the log.

    Raises:
        CannotInstall: it failed.
    """
    command = [_venv_python(), "-m", "pip", *arguments]
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    last_line = ""
    try:
        last_line = _show_progress(pip, progress, log)
    finally:
        pip.terminate()
        progress.finish()
    if pip.wait() != 0:
        problem = progress.problem or last_line or "no reason given"
        raise CannotInstall(f"pip failed: {problem} (its whole output: {log.name})")


def _show_progress(pip: subprocess.Popen[str], progress: Progress, log: TextIO) -> str:
    """Show the progress until pip ends, and return its last line."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(pip, lines), daemon=True).start()
    last_line = ""
    while True:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            progress.show()
            continue
        if line is None:
            pip.wait()
            return last_line
        log.write(line)
        last_line = line.strip()
        progress.parse(line.rstrip())
        progress.show()


def _read_lines(pip: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    for line in pip.stdout or ():
        lines.put(line)
    lines.put(None)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def _venv_python() -> str:
    return str(VENV / "bin" / "python")


if __name__ == "__main__":
    sys.exit(main())
