"""Which web pages may call the API from a browser.

Callers prove who they are by a header that a page has to add itself, never by a cookie, so where tokens are asked for
every page may try, as with the Hugging Face hub.  Where none are asked for, being able to reach the gateway is what
lets a caller in, and a browser reaches it on behalf of any page: there only pages of this machine may.
"""

from collections.abc import Callable
from urllib.parse import urlsplit

from flask import Flask, Response, request

EVERYBODY = "*"
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_METHODS = "GET, POST, DELETE, OPTIONS"
# `x-*`, save the first and the last, are what the clients' own options become; some browsers ask for user-agent too.
_REQUEST_HEADERS = (
    "authorization, content-type, user-agent, idempotency-key, prefer, x-hf-bill-to, x-load-model, x-use-cache, "
    "x-wait-for-model, x-request-id"
)
_RESPONSE_HEADERS = ("location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id")
_OWN_PREFIXES = ("x-compute-", "x-maskmill-")
_KEEP_SECONDS = 7200  # the most that a browser believes

Policy = Callable[[str], str | None]
"""Say what a page of this origin is allowed by: `*`, its own origin, or None."""


def policy_of(setting: str, *, requires_token: bool) -> Policy:
    """Read MASKMILL_CORS_ORIGINS: `auto`, `*`, or origins separated by commas or blanks."""
    if setting == EVERYBODY or (setting == "auto" and requires_token):
        return lambda _origin: EVERYBODY
    if setting == "auto":
        return lambda origin: origin if _is_loopback(origin) else None
    listed = frozenset(setting.replace(",", " ").split())
    return lambda origin: origin if origin in listed else None


def install(app: Flask, policy: Policy) -> None:
    """Let the app answer preflights, and mark its answers for the pages that may read them."""

    def open_to_page(response: Response) -> Response:
        origin = request.headers.get("Origin")
        allowed = policy(origin) if origin else None
        if allowed is not None:
            _open(response, allowed)
        return response

    app.before_request(answer_preflight)
    app.after_request(open_to_page)


def answer_preflight() -> Response | None:
    """Answer OPTIONS of any address at once, for what is asked there can only be told by the request that follows."""
    if request.method != "OPTIONS":
        return None
    response = Response(status=204)
    response.headers["Allow"] = _METHODS
    if "Origin" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = _METHODS
        response.headers["Access-Control-Allow-Headers"] = _REQUEST_HEADERS
        response.headers["Access-Control-Max-Age"] = str(_KEEP_SECONDS)
    return response


def _open(response: Response, allowed: str) -> None:
    names = [name.lower() for name in response.headers.keys()]  # noqa: SIM118
    exposed = [name for name in names if name in _RESPONSE_HEADERS or name.startswith(_OWN_PREFIXES)]
    response.headers["Access-Control-Allow-Origin"] = allowed
    response.headers["Access-Control-Expose-Headers"] = ", ".join(exposed)
    if allowed != EVERYBODY:
        response.vary.add("Origin")


def _is_loopback(origin: str) -> bool:
    try:
        return urlsplit(origin).hostname in _LOOPBACK
    except ValueError:
        return False
