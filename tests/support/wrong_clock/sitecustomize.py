"""A machine whose clock is wrong by MACHINE_AHEAD_SECONDS: Python imports this first if its folder is in PYTHONPATH.

Only unix time is changed; time.monotonic() measures durations on such a machine too.
"""

import os
import time

_AHEAD_SECONDS = float(os.environ.get("MACHINE_AHEAD_SECONDS", "0"))
_read_time, _read_time_ns = time.time, time.time_ns

time.time = lambda: _read_time() + _AHEAD_SECONDS
time.time_ns = lambda: _read_time_ns() + int(_AHEAD_SECONDS * 1e9)
