"""The share of time in which the GPU is busy, sampled with nvidia-smi."""

import os
import pty
import shutil
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Self

SAMPLE_INTERVAL_MS = 200
COMMAND = (
    "nvidia-smi",
    "--id=0",
    "--query-gpu=utilization.gpu",
    "--format=csv,noheader,nounits",
    f"--loop-ms={SAMPLE_INTERVAL_MS}",
)


class GpuUsage:
    """Samples the utilization while the context is open: the share of the last moments in which kernels ran.

    Without the program every mean is None.
    """

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._samples: list[tuple[float, float]] = []  # (time.monotonic(), share in [0, 1])
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if shutil.which(self._command[0]):
            # The program fills a buffer before it writes to a pipe; it writes each line at once to a terminal.
            terminal, theirs = pty.openpty()
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=theirs)
            os.close(theirs)
            threading.Thread(target=self._receive, args=(terminal,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def mean(self, start: float, end: float) -> float | None:
        """Return the mean share, in [0, 1], between two times of time.monotonic(); None without a sample."""
        shares = [share for at, share in list(self._samples) if start <= at <= end]
        return round(statistics.mean(shares), 3) if shares else None

    def _receive(self, terminal: int) -> None:
        with open(terminal, errors="replace") as lines:
            try:
                for line in lines:
                    self._append(line.strip())
            except OSError:  # the program has ended
                return

    def _append(self, text: str) -> None:
        if text.isdigit():  # not "[N/A]"
            self._samples.append((time.monotonic(), int(text) / 100))
