"""What the process gives to the protocol of its connections."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from api.server.connection import Connection
from shared.errors import MaskmillError


@dataclass(frozen=True, slots=True)
class RequestHooks:
    """The functions of the process that the protocol calls.

    dispatch: runs the request of a connection on a thread, with the reason if its body was not read to the end, and
        has finish() called on the loop's thread afterwards.
    refuse: returns the error of a request whose body need not be read, by its Authorization header; or None.
    render_error: returns the response for a malformed request, by request (if any), address and exception.
    wake: called on any thread; has push() called on the loop's thread.
    """

    dispatch: Callable[[Connection, MaskmillError | None], None]
    refuse: Callable[[str | None], MaskmillError | None]
    render_error: Callable[[Any, Any, Exception], bytes]
    wake: Callable[[Connection], object]
