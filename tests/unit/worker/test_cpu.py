"""Settings of the process for the forward pass on a CPU, in a process of their own."""

import platform
import subprocess
import sys

import pytest

COUNT_PAGE_FAULTS = """
import resource, sys, threading
from worker.engine.cpu import keep_freed_memory

def allocate():
    for _ in range(10):
        bytes(b'x') * 100_000_000

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    allocate()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "kept":
    assert keep_freed_memory()
allocate()
thread = threading.Thread(target=count)  # as the device's thread
thread.start()
thread.join()
"""


def count_page_faults(mode: str) -> int:
    command = [sys.executable, "-c", COUNT_PAGE_FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    assert count_page_faults("kept") < count_page_faults("default") / 5
