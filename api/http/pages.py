"""Requests that a web page makes in a browser: which pages may call a gateway that requires no token.

Such a gateway serves each client that reaches it, and a browser reaches it for every page that it shows.  CORS alone
keeps a page from reading responses, not from sending requests: a form is submitted without a preflight.  So requests
of foreign pages are refused before anything else is done.
"""

from urllib.parse import urlsplit

from flask import Request

from api.http.cors import Policy
from shared.authority import parse_authority, parse_origin
from shared.errors import ForeignOrigin

# Fetch Metadata (W3C).  `none`: the user entered the address.  Browsers send these headers to loopback and over TLS.
_OWN_SITES = frozenset({"", "same-origin", "none"})
_MESSAGE = (
    "Web pages of other origins may not call this service, because it requires no token. "
    "The operator allows a page by MASKMILL_CORS_ORIGINS, or requires a token by MASKMILL_TOKENS."
)


def check_page(request: Request, policy: Policy) -> None:
    """Check that a request does not come from a foreign page; clients that are no browsers send none of the headers.

    Raises:
        ForeignOrigin: it comes from one; a top-level navigation, such as a link to a result, is allowed.
    """
    origin = request.headers.get("Origin")
    if origin is not None:
        if not _is_allowed(origin, request, policy):
            raise ForeignOrigin(_MESSAGE)
        return
    if request.headers.get("Sec-Fetch-Site", "").strip().lower() in _OWN_SITES or _is_navigation(request):
        return
    # An image or a script: a browser sends no Origin for it, but the referring page, of which at least the origin.
    if not _is_allowed(_read_referring_origin(request), request, policy):
        raise ForeignOrigin(_MESSAGE)


def _is_allowed(origin: str, request: Request, policy: Policy) -> bool:
    """Tell whether an origin is listed, or is served under the name of this request, which was checked already."""
    own = parse_origin(origin)
    return policy(origin) is not None or (own is not None and own.authority == parse_authority(request.host))


def _is_navigation(request: Request) -> bool:
    """Tell whether the user follows a link in a tab of its own: the page that has the link cannot read the response."""
    headers = request.headers
    is_document = (headers.get("Sec-Fetch-Mode"), headers.get("Sec-Fetch-Dest")) == ("navigate", "document")
    return is_document and request.method in ("GET", "HEAD")


def _read_referring_origin(request: Request) -> str:
    try:
        page = urlsplit(request.headers.get("Referer", ""))
    except ValueError:
        return ""
    return f"{page.scheme}://{page.netloc}"
