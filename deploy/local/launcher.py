"""Run the whole service on this machine:   python -m deploy.local --port 8000 --model embedded --data ./data

Starts all processes, segments a sample photo to show that they work, and restarts processes that die, until Ctrl-C.
"""

import argparse
import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TypeVar

from filelock import FileLock, Timeout

from deploy.keys.private_files import make_private_folder
from deploy.local.environment import names_proxy
from deploy.local.gateway_client import GatewayRefused
from deploy.local.processes import NotReady
from deploy.local.sample_job import SampleResult, curl_commands, format_segments, run_sample
from deploy.local.servers import LOOPBACK
from deploy.local.stack import Stack
from deploy.local.supervision import RestartLimitReached, Supervisor
from shared.worker_registry import public_id

T = TypeVar("T")

MIN_FREE_BYTES = 1_000_000_000
_CHECK_INTERVAL_SECONDS = 0.2


_DESCRIPTION = """\
Run Maskmill on this machine: a web page that turns photos into masks, and the API behind it. Ctrl-C stops it;
photos and results are there again at the next start. Only this machine can connect.
"""
_EPILOG = """\
models:
  embedded                   comes with Maskmill, and needs neither a GPU nor a download
  facebook/mask2former-...   a Mask2Former of the Hugging Face Hub, by its id; it is downloaded once
  ./folder                   a folder with a config.json and safetensors
  s3://bucket/prefix         the same, in an S3 bucket

The variables MASKMILL_... change all else; deploy/docs/reference/settings.md has a table of them.
MASKMILL_TOKENS=me:secret asks each client for the token `secret`, also on the page. `make serve PORT=8001` is the
same as --port 8001. The page has a tutorial at /docs.
"""


class CannotStart(Exception):
    """A condition that the user can correct; the text is one line and says how."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit code."""
    options = _parse(arguments)
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        port = parse_port(options.port)
        check_port(port)
        model = resolve_model(options.model)
        data = resolve_data(options.data)
        with lock_data_folder(data):
            check_disk(data)
            stack = Stack(data, model=model, port=port, environ=os.environ)
            stack.check_settings()
            _serve(stack)
    except (CannotStart, NotReady, GatewayRefused, RestartLimitReached) as problem:
        print(f"maskmill: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.local",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--port", default="8000", help="port of the page and the API, on this machine alone (default: 8000)"
    )
    parser.add_argument("--model", default="embedded", help="what finds the segments, see below (default: embedded)")
    parser.add_argument("--data", default="data", help="folder for photos, results, logs and keys (default: ./data)")
    return parser.parse_args(arguments)


def _serve(stack: Stack) -> None:
    try:
        stack.start(print_step)
        supervisor = Supervisor(stack.processes, report=_report)
        # Before all else that is printed, because a new user needs nothing else.
        print(f"Open {stack.url}/ in a browser", flush=True)
        show_sample(stack, supervisor.check)
        print(f"\nMaskmill serves {public_id(stack.model)} at {stack.url}   (Ctrl-C stops it)", flush=True)
        while True:
            supervisor.check()
            time.sleep(_CHECK_INTERVAL_SECONDS)
    finally:
        # A second Ctrl-C must not interrupt the shutdown: it would leave processes running.
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)
        with print_step("Stopping"):
            stack.stop()


def show_sample(stack: Stack, check: Callable[[], object]) -> None:
    """Segment the sample photo and print its segments, or in one line why it was not: the service is up all the same.

    Args:
        check: called a few times a second meanwhile.
    """
    try:
        with print_step("Segmenting a sample photo") as tick:
            sample = _call(partial(run_sample, stack.client), meanwhile=(tick, check))
        _print_sample(stack, sample)
    except (GatewayRefused, OSError) as problem:
        print(f"The service is up, but the sample photo was not shown: {problem}", flush=True)


def _call(function: Callable[[], T], *, meanwhile: Sequence[Callable[[], object]]) -> T:
    """Run a function on a thread, and others a few times a second until it has ended."""
    thread = ThreadPoolExecutor(1)
    call = thread.submit(function)
    # Without waiting: Ctrl-C ends the service, and that ends the call.
    thread.shutdown(wait=False)
    while wait([call], timeout=_CHECK_INTERVAL_SECONDS).not_done:
        for each in meanwhile:
            each()
    return call.result()


def _print_sample(stack: Stack, sample: SampleResult) -> None:
    overlay = stack.data / "sample-overlay.png"
    overlay.write_bytes(sample.overlay)
    print(f"\n{format_segments(sample.result)}\n\nThe photo with its masks: {overlay}\n")
    has_token = bool(stack.client.token)
    print("Try it, with a token of yours in the variable TOKEN:\n" if has_token else "Try it:\n")
    commands = curl_commands(stack.url, sample.job_id, requires_token=has_token, names_proxy=names_proxy(os.environ))
    for line in commands:
        print(f"  {line}")


def _report(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


@contextlib.contextmanager
def print_step(title: str) -> Iterator[Callable[[], None]]:
    """Print the title of a step and its duration; on a terminal, the yielded function updates the seconds meanwhile."""
    started = time.monotonic()

    def tick() -> None:
        if sys.stdout.isatty():
            print(f"\r{title} ... {time.monotonic() - started:.0f} s ", end="", flush=True)

    print(f"{title} ... ", end="", flush=True)
    try:
        yield tick
    except BaseException:
        print(flush=True)
        raise
    again = f"\r{title} ... " if sys.stdout.isatty() else ""
    print(f"{again}done in {time.monotonic() - started:.1f} s", flush=True)


def parse_port(text: str) -> int:
    """Return the number of a port.

    Raises:
        CannotStart: there is no such port.
    """
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise CannotStart(f"there is no port {text!r}; choose one from 1 to 65535, as in: make serve PORT=8001")
    return int(text)


def check_port(port: int) -> None:
    """Check that the gateway can listen on this port of the loopback address.

    Raises:
        CannotStart: the port is in use, or must not be used.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            why = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
            raise CannotStart(f"port {port} {why}; choose another one, as in: make serve PORT=8001") from error


def resolve_model(model: str) -> str:
    """Return the worker's `MASKMILL_MODEL`: a folder as an absolute path, any other name unchanged.

    Raises:
        CannotStart: the folder does not exist or contains no model.
    """
    if not model.strip():
        raise CannotStart("no model is named; write it as in: make serve MODEL=embedded")
    if not model.startswith((".", "/", "~")):
        return model
    folder = resolve_folder(model)
    try:
        has_config = (folder / "config.json").is_file()
    except OSError as error:
        raise CannotStart(f"the model {model!r} cannot be read: {error.strerror}") from error
    if not has_config:
        raise CannotStart(f"there is no model in {str(folder)!r} (it would have a config.json)")
    return str(folder)


def resolve_data(text: str) -> Path:
    """Return the data folder.

    Raises:
        CannotStart: none is named: the current folder would be made private.
    """
    if not text.strip():
        raise CannotStart("no folder for data is named; write it as in: make serve DATA=./data")
    return resolve_folder(text)


def resolve_folder(text: str) -> Path:
    """Return the absolute path of a folder, which may be missing.

    Raises:
        CannotStart: there can be no such folder: a user without home, a circle of links.
    """
    try:
        return Path(text).expanduser().resolve()
    except (RuntimeError, OSError):
        raise CannotStart(f"there can be no folder {text!r}; choose another one") from None


def check_disk(data: Path) -> None:
    """Check that the disk has space for results.

    Raises:
        CannotStart: less is free than MIN_FREE_BYTES.
    """
    free = shutil.disk_usage(data).free
    if free < MIN_FREE_BYTES:
        raise CannotStart(f"{data} has {free / 1e9:.1f} GB of disk left, less than {MIN_FREE_BYTES / 1e9:.0f} GB")


@contextlib.contextmanager
def lock_data_folder(data: Path) -> Iterator[None]:
    """Create the data folder if it is missing, and hold its lock; the kernel releases it however the process ends.

    The folder is made private, one of an earlier version too.

    Raises:
        CannotStart: another process holds the lock, or the folder cannot be written or belongs to others.
    """
    check_owner(data)
    # In a file of its own: FileLock does not promise to keep the content of the lock file.
    pid_file = data / "lock.pid"
    with _acquire_lock(data, pid_file):
        pid_file.write_text(str(os.getpid()))
        yield


def check_owner(data: Path) -> None:
    """Check that the data folder, if it exists, may be closed to other users.

    Raises:
        CannotStart: it belongs to another user, or is for all users, as /tmp is.
    """
    try:
        found = data.stat()
    except OSError:
        return
    if found.st_uid != os.getuid() or found.st_mode & stat.S_ISVTX:
        raise CannotStart(
            f"the folder {data} is not yours alone, and data must be private; choose another one, as in: "
            "make serve DATA=./data2"
        )


def _acquire_lock(data: Path, pid_file: Path) -> AbstractContextManager[object]:
    try:
        make_private_folder(data)
        return FileLock(data / "lock", blocking=False, fallback_to_soft=False).acquire()
    except Timeout as error:
        raise CannotStart(
            f"{data} is in use by another Maskmill (process {_read_pid(pid_file)}); choose another folder, as in: "
            "make serve DATA=./data2"
        ) from error
    except OSError as error:
        raise CannotStart(f"the folder {data} cannot be used: {error.strerror}") from error


def _read_pid(pid_file: Path) -> str:
    try:
        return pid_file.read_text().strip() or "unknown"
    except OSError:
        return "unknown"


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
