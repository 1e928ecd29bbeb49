"""The tokens of a running gateway: the tokens file is read again when it has changed, without a restart."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from api.http.tokens import Token, build_table, parse_file
from shared.setting_types import quote_path

log = structlog.get_logger()

CHECK_INTERVAL_SECONDS = 1.0
# Time of the last change, number of the file, size.
_Version = tuple[int, int, int]


class TokenTable:
    """The tokens of both settings.  Thread-safe.

    The file is looked at by the requests themselves, at most once in CHECK_INTERVAL_SECONDS.  A file that is missing or
    wrong changes nothing but the log: the tokens that were read last remain valid.
    """

    def __init__(self, fixed: Sequence[Token], path: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Read the file; `fixed` are the tokens of the other setting, and an empty `path` means no file.

        Raises:
            ValueError: the file cannot be read or is wrong, or a token is given to two names.
        """
        self._fixed = fixed
        self._path = path
        self._shown = f"MASKMILL_TOKENS_FILE: the file {quote_path(path)}"
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._version: _Version | None = None
        self._tokens = build_table(fixed) if not path else self._read()
        self._check_at = monotonic() + CHECK_INTERVAL_SECONDS

    def list_tokens(self) -> Sequence[Token]:
        # While one thread reads the file, the others use the tokens that were read before.
        if self._path and self._monotonic() >= self._check_at and self._lock.acquire(blocking=False):
            try:
                self._check_at = self._monotonic() + CHECK_INTERVAL_SECONDS
                self._reload()
            finally:
                self._lock.release()
        return self._tokens

    def _reload(self) -> None:
        if self._read_version() == self._version:
            return
        try:
            self._tokens = self._read()
        except ValueError as error:
            log.error("tokens_not_reloaded", reason=str(error))
        else:
            log.info("tokens_reloaded", path=self._path, count=len(self._tokens))

    def _read(self) -> Sequence[Token]:
        # The version is that of before the reading: a change after it is found at the next check.
        self._version = self._read_version()
        try:
            text = Path(self._path).read_text()
        except OSError as error:
            raise ValueError(
                f"MASKMILL_TOKENS_FILE: the file {quote_path(self._path)} cannot be read: {error.strerror}"
            ) from error
        except UnicodeDecodeError as error:
            raise ValueError(
                f"MASKMILL_TOKENS_FILE: the file {quote_path(self._path)} is not a text in UTF-8"
            ) from error
        return build_table([*self._fixed, *parse_file(text, self._path)])

    def _read_version(self) -> _Version | None:
        try:
            found = os.stat(self._path)  # noqa: PTH116
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size
