"""The check of the stores in a child process, which ends with its parent, however that ends."""

import os
import signal
import threading
from contextlib import closing
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from types import FrameType

from api.settings import ApiSettings
from shared.errors import UnusableStores
from shared.redis_client import connect
from shared.storage.bucket import open_bucket
from shared.store_check import check_at_start, open_store_check

_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def check_stores(settings: ApiSettings) -> bool:
    """Check the stores in a child process, because the client of the bucket has threads, which no fork may cross.

    Returns whether both answered; if not, the processes that serve make the checks later.  From now on SIGTERM and
    SIGINT end this process by SystemExit, until the server has handlers of its own.

    Raises:
        UnusableStores: the gateway must not use them.
    """
    for number in _END_SIGNALS:
        signal.signal(number, _end)
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report_check, args=(settings, sender), daemon=True)
    with closing(receiver):
        try:
            child.start()
            sender.close()
            are_checked, reason = receiver.recv()
        except EOFError:
            raise UnusableStores("The check of the stores ended early; see the log.") from None
        finally:
            if child.pid:
                child.kill()
                child.join()
    if reason:
        raise UnusableStores(reason)
    return bool(are_checked)


def _end(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _report_check(settings: ApiSettings, sender: Connection) -> None:
    """Send whether the stores could be checked, and why they must not be used; an empty sentence if they may."""
    for number in _END_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with connect(settings) as client:
            are_checked = check_at_start(open_store_check(settings, client, open_bucket(settings)))
    except (ValueError, OSError, UnusableStores) as error:
        sender.send((False, str(error) or repr(error)))
    else:
        sender.send((are_checked, ""))


def _end_with_parent() -> None:
    """Wait until the parent has ended, and end this process, whose check may wait for a store."""
    parent = parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
