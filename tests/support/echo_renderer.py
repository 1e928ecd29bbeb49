"""A renderer whose handler does what the arguments of a call say:  python -m tests.support.echo_renderer

All else is the real renderer: Celery, the scripts, the drain.  `sleep`: seconds; `hold`: seconds of sleep
that hold the interpreter's lock; `fail`: the code of an error; `crash`; `kill`: the process, as the system does;
`size`: bytes of the reply.  The reply counts the calls, so that shared ones are seen.
"""

import ctypes
import itertools
import json
import os
import signal
import sys
import time
from contextlib import ExitStack

from shared.errors import build_error
from shared.jobs.render_calls import RenderCall, RenderKind
from shared.logs import configure_logging
from shared.settings import read_settings
from worker.renderer.app import serve
from worker.settings import RendererSettings


def build_echo() -> dict[RenderKind, object]:
    """Return a handler for one kind of call, and none for the other."""
    numbers = itertools.count(1)

    def echo(call: RenderCall) -> bytes:
        arguments = dict(call.arguments)
        number = next(numbers)
        time.sleep(float(str(arguments.get("sleep", 0))))
        if "hold" in arguments:
            ctypes.PyDLL(None).sleep(int(str(arguments["hold"])))
        if "kill" in arguments:
            os.kill(os.getpid(), signal.SIGKILL)
        if "crash" in arguments:
            raise RuntimeError("a bug")
        if "fail" in arguments:
            raise build_error(str(arguments["fail"]), "as asked for")
        return json.dumps({"number": number}).encode() + b"." * int(str(arguments.get("size", 0)))

    return {RenderKind.FORMAT: echo}


def main() -> int:
    settings = read_settings(RendererSettings)
    configure_logging(settings, process="renderer")
    with ExitStack() as stack:
        serve(settings, build_echo(), stack)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    sys.exit(main())
