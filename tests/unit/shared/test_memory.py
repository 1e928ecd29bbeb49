"""The allocator of a process keeps little of what its threads freed, or much of it; each in a process of its own."""

import platform
import subprocess
import sys

import pytest

# Each thread leaves small objects above large ones, so that its arena cannot shrink by itself.
BURST = """
import sys, threading
from pathlib import Path
from shared.memory import HOST_MAPPED_BYTES, limit_kept_memory, return_free_memory

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 1_000_000

kept = []
def run():
    for _ in range(6):
        arrays = [bytearray(900_000) for _ in range(20)]
        kept.append(bytearray(100_000))

limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
before = resident()
threads = [threading.Thread(target=run) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
return_free_memory()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_a_process_returns_what_its_threads_freed() -> None:
    result = subprocess.run([sys.executable, "-c", BURST], capture_output=True, check=True, text=True)

    assert int(result.stdout) < 20


# Larger than what a limited process maps.
REPEATED = """
import resource
from pathlib import Path
from shared.memory import HOST_MAPPED_BYTES, keep_freed_memory, limit_kept_memory, return_free_memory

PAGES = 4_000_000 // 4096

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])

def count_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def run():
    for _ in range(4):
        bytearray(4_000_000)
    before = count_faults()
    for _ in range(10):
        bytearray(4_000_000)
    print(count_faults() - before < PAGES)

limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
keep_freed_memory(64_000_000)
before = resident()
run()
return_free_memory()
print(resident() - before < PAGES // 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs glibc")
def test_a_process_that_keeps_its_memory_meets_no_page_faults_and_returns_it_on_demand() -> None:
    result = subprocess.run([sys.executable, "-c", REPEATED], capture_output=True, check=True, text=True)

    assert result.stdout.split() == ["True", "True"]


COUNT_PAGE_FAULTS = """
import resource, sys, threading
from shared.memory import FORWARD_KEPT_BYTES, keep_freed_memory

def allocate():
    for _ in range(10):
        bytes(b'x') * 100_000_000

def count():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    allocate()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "kept":
    keep_freed_memory(FORWARD_KEPT_BYTES, arenas=1)
allocate()
thread = threading.Thread(target=count)  # as the device's thread
thread.start()
thread.join()
"""


def count_page_faults(mode: str) -> int:
    command = [sys.executable, "-c", COUNT_PAGE_FAULTS, mode]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_a_forward_pass_uses_memory_that_another_thread_freed_without_page_faults() -> None:
    assert count_page_faults("kept") < count_page_faults("default") / 5
