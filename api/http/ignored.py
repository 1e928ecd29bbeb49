"""The response header that names what a request has given without effect.

Clients of the Hugging Face task send members that other servers know, so they are not refused.  Pure.
"""

from collections.abc import Iterable
from itertools import islice
from typing import Final
from urllib.parse import quote

HEADER: Final = "x-maskmill-ignored"
MAX_NAMES = 16
MAX_NAME_CHARACTERS = 64
_MORE = "..."


def format_names(names: Iterable[str]) -> str:
    """Return names for the header, separated by commas: percent-encoded, cut, and `...` after the first MAX_NAMES.

    Only letters, digits and `-._~%` are left of a client's text, so that none can end the header.

    >>> format_names(["top_k", "options.a b", "a,b"])
    'top_k, options.a%20b, a%2Cb'
    """
    known = [_encode(name) for name in islice(dict.fromkeys(names), MAX_NAMES + 1)]
    return ", ".join([*known[:MAX_NAMES], *([_MORE] if len(known) > MAX_NAMES else [])])


def _encode(name: str) -> str:
    return quote(name[:MAX_NAME_CHARACTERS], safe="", errors="replace")[:MAX_NAME_CHARACTERS]
