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
