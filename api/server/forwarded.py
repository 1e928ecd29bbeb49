"""What a trusted proxy in front says of a request: X-Forwarded-For, -Proto, -Host and -Prefix.

Of each the last value counts: the proxy nearest to the gateway has set or appended it, and what comes before is its
client's word.  `Forwarded` (RFC 7239) is not read.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from werkzeug.middleware.proxy_fix import ProxyFix

from api.server.options import REFUSED_PREFIX_KEY, WsgiApp
from api.server.paths import remove_prefix

MAX_PREFIX_CHARACTERS = 200
_PROTO, _PREFIX = "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_PREFIX"
_HEADERS = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_HOST", _PROTO, _PREFIX)
_SCHEMES = frozenset({"http", "https"})
# Unreserved characters (RFC 3986), so that a link begins with the prefix as it is.  No segment begins with a dot, and
# none is empty: `//name` would be another host to a browser, and `..` another path.
_PREFIX_FORM = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+")


class ForwardedRequests:
    """WSGI middleware: werkzeug's ProxyFix for one proxy, whose values are checked before.

    A prefix that is none is left for the app to refuse, under REFUSED_PREFIX_KEY.
    """

    def __init__(self, app: WsgiApp) -> None:
        self._app = ProxyFix(app, x_for=1, x_proto=1, x_host=1, x_prefix=1)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._check(environ)
        return self._app(environ, start_response)

    def _check(self, environ: dict[str, Any]) -> None:
        # ProxyFix reads quoted strings, which a client can open in what comes before the proxy's value.
        last = {key: read_last_value(environ[key]) for key in _HEADERS if key in environ}
        scheme = last.get(_PROTO, "").lower()
        sent = last.get(_PREFIX, "")
        prefix = parse_prefix(sent)
        if prefix is None:
            environ[REFUSED_PREFIX_KEY] = sent
        environ |= last | {_PROTO: scheme if scheme in _SCHEMES else "", _PREFIX: prefix or ""}
        environ["PATH_INFO"] = remove_prefix(environ["PATH_INFO"], prefix or "")


def read_last_value(header: str) -> str:
    """Return the last of the values that are separated by commas."""
    return header.rpartition(",")[2].strip()


def parse_prefix(text: str) -> str | None:
    """Return a path prefix without a slash at its end, "" if there is none, or None if it is not a prefix.

    >>> parse_prefix("/masks/"), parse_prefix("/"), parse_prefix("//evil.example")
    ('/masks', '', None)
    """
    prefix = text.removesuffix("/")
    if not prefix and text in ("", "/"):
        return ""
    return prefix if len(prefix) <= MAX_PREFIX_CHARACTERS and _PREFIX_FORM.fullmatch(prefix) else None
