"""Which requests come from foreign web pages, by the headers that browsers send and that a page cannot change."""

from collections.abc import Callable
from typing import Protocol
from urllib.parse import urlsplit

from shared.authority import parse_authority, parse_origin

# Fetch Metadata (W3C).  `none`: the user entered the address.  Browsers send these headers to loopback and over TLS.
_OWN_SITES = frozenset({"", "same-origin", "none"})


class Headers(Protocol):
    """The headers of a request, by names of which the case does not matter."""

    def get(self, name: str, /) -> str | None: ...


def is_from_foreign_page(method: str, headers: Headers, host: str, allows: Callable[[str], bool]) -> bool:
    """Tell whether a request comes from a page of another origin; clients that are no browsers send no such header.

    A top-level navigation, such as a link to a result, does not count as foreign.

    Args:
        host: the name under which this service was called, with its port; checked before.
        allows: tells whether another origin is allowed.
    """
    origin = headers.get("Origin")
    if origin is None:
        if (headers.get("Sec-Fetch-Site") or "").strip().lower() in _OWN_SITES or _is_navigation(method, headers):
            return False
        # An image or a script: a browser sends no Origin for it, but the referring page, of which at least the origin.
        origin = _read_referring_origin(headers)
    found = parse_origin(origin)
    return not (allows(origin) or (found is not None and found.authority == parse_authority(host)))


def _is_navigation(method: str, headers: Headers) -> bool:
    """Tell whether the user follows a link in a tab of its own: the page that has the link cannot read the response."""
    is_document = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return is_document and method in ("GET", "HEAD")


def _read_referring_origin(headers: Headers) -> str:
    try:
        page = urlsplit(headers.get("Referer") or "")
    except ValueError:
        return ""
    return f"{page.scheme}://{page.netloc}"
