"""Cross-origin resource sharing: which web pages may call the API from a browser (Fetch standard, section 3.3).

Clients authenticate by a header that a page must add itself, never by a cookie.  So where tokens are required every
origin is allowed, as on the Hugging Face Hub.  Where none are required, network access alone authorizes a client, and a
browser lends that access to every page it shows: only pages from this machine are allowed.

An allowed page may send every header but those of proxies: instrumentation in browsers adds its own to each request,
`traceparent` and the like, and a preflight that does not allow one fails the request.
"""

import re
from collections.abc import Callable, Iterable

from flask import Flask, Response, request
from flask.globals import request_ctx
from werkzeug.datastructures import HeaderSet

from shared.authority import parse_origin, parse_origins

ANY_ORIGIN = "*"
MAX_AGE_SECONDS = 7200  # the longest that Chromium caches a preflight
_METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
# Allowed even if a preflight asks for none, or for too many.  The options of the Hugging Face clients become `x-*`.
_REQUEST_HEADERS = (
    "authorization",
    "content-type",
    "user-agent",
    "idempotency-key",
    "prefer",
    "x-hf-bill-to",
    "x-load-model",
    "x-use-cache",
    "x-wait-for-model",
    "x-request-id",
)
MAX_ASKED_CHARACTERS = 2048
_MAX_ASKED = 64
_HEADER_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,64}")  # a token (RFC 9110, section 5.6.2)
# A gateway that trusts a proxy on loopback would believe a page on the same machine.
_OF_PROXIES = re.compile(r"forwarded|x-forwarded-.*|x-real-ip|via")
# For the browser, not for the page; Set-Cookie is one that no page may read.
_NOT_EXPOSED = frozenset({"vary", "set-cookie"})

Policy = Callable[[str], str | None]
"""Returns the value of Access-Control-Allow-Origin for an origin: `*`, the origin itself, or None for no header."""


def build_policy(setting: str, *, requires_token: bool) -> Policy:
    """Read MASKMILL_CORS_ORIGINS: `auto`, `*`, or origins separated by commas or spaces.

    Raises:
        ValueError: an entry is none of these.
    """
    setting = setting.strip()
    if setting == ANY_ORIGIN or (setting == "auto" and requires_token):
        return lambda _origin: ANY_ORIGIN
    if setting == "auto":
        return lambda origin: origin if _is_loopback(origin) else None
    listed = parse_origins(setting)
    return lambda text: text if parse_origin(text) in listed else None


def install(app: Flask, policy: Policy) -> None:
    """Make the app answer preflights, and add the CORS headers to its responses."""

    def add_headers(response: Response) -> Response:
        # A browser may have a response in its cache for an image, whose request has no Origin, when a script asks.
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        allowed = policy(origin) if origin else None
        if allowed is not None:
            _allow_origin(response, allowed)
        if allowed is not None and request.method == "OPTIONS":
            _allow_request(response)
        return response

    app.before_request(answer_preflight)
    app.after_request(add_headers)


def answer_preflight() -> Response | None:
    """Answer OPTIONS on every path, before authentication and routing: a preflight has no token.

    A path that does not exist is reported by the request that follows.
    """
    if request.method != "OPTIONS":
        return None
    response = Response(status=204)
    response.allow.update(_list_methods())
    return response


def _list_methods() -> Iterable[str]:
    """Return the methods that the path of the current request takes."""
    adapter = request_ctx.url_adapter
    return sorted({*(adapter.allowed_methods() if adapter is not None else ()), "OPTIONS"})


def list_allowed_headers(asked: str) -> list[str]:
    """Return the names of the headers that a page may send.

    Args:
        asked: Access-Control-Request-Headers of a preflight.  What is no name, or a proxy's, is left out.
    """
    names = asked.lower().split(",", _MAX_ASKED)[:_MAX_ASKED] if len(asked) <= MAX_ASKED_CHARACTERS else []
    found = (name.strip() for name in names)
    valid = [name for name in found if _HEADER_NAME.fullmatch(name) and not _OF_PROXIES.fullmatch(name)]
    return list(dict.fromkeys((*_REQUEST_HEADERS, *valid)))


def _allow_request(response: Response) -> None:
    """Tell a preflight from an allowed origin what it may send."""
    response.access_control_allow_methods = HeaderSet(_METHODS)
    asked = request.headers.get("Access-Control-Request-Headers", "")
    response.access_control_allow_headers = HeaderSet(list_allowed_headers(asked))
    response.access_control_max_age = MAX_AGE_SECONDS
    response.vary.add("Access-Control-Request-Headers")
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        # From a page of a public address to a private one.  Its origin is allowed, which is a stricter condition.
        response.headers["Access-Control-Allow-Private-Network"] = "true"


def _allow_origin(response: Response, allowed: str) -> None:
    names = dict.fromkeys(name.lower() for name, _ in response.headers)
    response.access_control_allow_origin = allowed
    response.access_control_expose_headers = HeaderSet(name for name in names if name not in _NOT_EXPOSED)


def _is_loopback(text: str) -> bool:
    origin = parse_origin(text)
    return origin is not None and origin.authority.is_loopback
