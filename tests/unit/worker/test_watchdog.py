"""A hung engine process is ended from outside."""

import subprocess
import sys

from worker.runtime.watchdog import HOST_SIGNAL

# PyDLL keeps the interpreter's lock during the call, so no Python code runs in this process any more.
HANGS = """
import ctypes
from worker.runtime.watchdog import end_on_host_signal
end_on_host_signal()
print("up", flush=True)
ctypes.PyDLL(None).sleep(60)
"""


def test_a_host_can_end_an_engine_whose_interpreter_hangs() -> None:
    with subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE) as engine:
        assert engine.stdout is not None
        assert engine.stdout.readline() == b"up\n"

        engine.send_signal(HOST_SIGNAL)

        # The handler gets the number of the signal, and _exit() takes it for the exit code: it was not killed by it.
        assert engine.wait(10) == HOST_SIGNAL
