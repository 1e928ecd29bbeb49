"""Lets web pages of every origin call the API, as those of the Hugging Face hub do.

Callers prove who they are by a header that a page has to add itself, never by a cookie, so no page can act in the name
of its visitor.
"""

from flask import Response, request

_METHODS = "GET, POST, DELETE, OPTIONS"
# `x-*`, save the first and the last, are what the clients' own options become; some browsers ask for user-agent too.
_REQUEST_HEADERS = (
    "authorization, content-type, user-agent, idempotency-key, x-hf-bill-to, x-load-model, x-use-cache, "
    "x-wait-for-model, x-request-id"
)
_RESPONSE_HEADERS = ("location", "ratelimit", "ratelimit-policy", "retry-after", "x-request-id")
_OWN_PREFIXES = ("x-compute-", "x-maskmill-")
_KEEP_SECONDS = 7200  # the most that a browser believes


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


def open_to_pages(response: Response) -> Response:
    """Let a web page read an answer, and those of its headers that it could have a use for."""
    if "Origin" not in request.headers:
        return response
    names = [name.lower() for name in response.headers.keys()]  # noqa: SIM118
    exposed = [name for name in names if name in _RESPONSE_HEADERS or name.startswith(_OWN_PREFIXES)]
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Access-Control-Expose-Headers"] = ", ".join(exposed)
    return response
