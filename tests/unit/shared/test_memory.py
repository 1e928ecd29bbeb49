"""A process whose allocator is limited keeps little of what its threads freed."""

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
