"""Cross-origin resource sharing: which web pages may call the API from a browser (Fetch standard, section 3.3).

Clients authenticate by a header that a page must add itself, never by a cookie.  So where tokens are required every
origin is allowed, as on the Hugging Face Hub.  Where none are required, network access alone authorizes a client, and a
browser lends that access to every page it shows: only pages from this machine are allowed.
"""

from collections.abc import Callable, Iterable

from flask import Flask, Response, request
from flask.globals import request_ctx
from werkzeug.datastructures import HeaderSet

from shared.authority import parse_origin, parse_origins

ANY_ORIGIN = "*"
MAX_AGE_SECONDS = 7200  # the longest that Chromium caches a preflight
_METHODS = ("GET", "POST", "DELETE", "OPTIONS")
# The options of the Hugging Face clients become `x-*`; some browsers ask for user-agent too.
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
_RESPONSE_HEADERS = ("location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id")
_RESPONSE_HEADER_PREFIXES = ("x-compute-", "x-maskmill-")

Policy = Callable[[str], str | None]
"""Returns the value of Access-Control-Allow-Origin for an origin: `*`, the origin itself, or None for no header."""


def build_policy(setting: str, *, requires_token: bool) -> Policy:
    """Read MASKMILL_CORS_ORIGINS: `auto`, `*`, or origins separated by commas or spaces.

    Raises:
        ValueError: an entry is none of these.
    """
    if setting == ANY_ORIGIN or (setting == "auto" and requires_token):
        return lambda _origin: ANY_ORIGIN
    if setting == "auto":
        return lambda origin: origin if _is_loopback(origin) else None
    listed = parse_origins(setting)
    return lambda text: text if parse_origin(text) in listed else None


def install(app: Flask, policy: Policy) -> None:
    """Make the app answer preflights, and add the CORS headers to its responses."""

    def add_headers(response: Response) -> Response:
        origin = request.headers.get("Origin")
        allowed = policy(origin) if origin else None
        if allowed is not None:
            _allow_origin(response, allowed)
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
    if "Origin" in request.headers:
        response.access_control_allow_methods = HeaderSet(_METHODS)
        response.access_control_allow_headers = HeaderSet(_REQUEST_HEADERS)
        response.access_control_max_age = MAX_AGE_SECONDS
    return response


def _list_methods() -> Iterable[str]:
    """Return the methods that the path of the current request takes."""
    adapter = request_ctx.url_adapter
    return sorted({*(adapter.allowed_methods() if adapter is not None else ()), "OPTIONS"})


def _allow_origin(response: Response, allowed: str) -> None:
    names = [name.lower() for name, _ in response.headers]
    response.access_control_allow_origin = allowed
    response.access_control_expose_headers = HeaderSet(filter(_is_exposed, names))
    if allowed != ANY_ORIGIN:
        response.vary.add("Origin")


def _is_exposed(name: str) -> bool:
    return name in _RESPONSE_HEADERS or name.startswith(_RESPONSE_HEADER_PREFIXES)


def _is_loopback(text: str) -> bool:
    origin = parse_origin(text)
    return origin is not None and origin.authority.is_loopback
