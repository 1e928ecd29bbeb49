"""Names under which the gateway serves: the check of the Host header, against DNS rebinding; and a proxy's path prefix.

A page whose own name was made to resolve to this machine is of the gateway's origin to a browser, and may read every
response.  The Host header holds that name, and a page cannot change it.  It can add X-Forwarded-Host, and reach the
gateway from the address of a trusted proxy: so that header is one more name to check, and replaces none.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from flask import Request

from api.server.options import REFUSED_PREFIX_KEY
from shared.authority import Authority, parse_address, parse_authority, quote_entry
from shared.errors import BadPrefix, UnknownHost

ANY_HOST = "*"
_MAX_SHOWN = 100
_BEFORE_PROXY_KEY = "werkzeug.proxy_fix.orig"
_ABSOLUTE_TARGET = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:")


HostPolicy = Callable[[Authority], bool]
"""Tells whether the gateway serves under a name."""


def build_host_policy(allowed_hosts: str, *, bind: str, requires_token: bool) -> HostPolicy:
    """Read MASKMILL_ALLOWED_HOSTS: names, `name:port`, `*.name` for its subdomains, or `*`; by commas or spaces.

    Loopback is always allowed, and the address at which clients reach the gateway, unless it stands for all addresses.
    Where a token is required, which a page does not have, names are checked only if the setting lists some.

    Raises:
        ValueError: an entry is none of these.
    """
    entries = allowed_hosts.replace(",", " ").split()
    rules = [_build_rule(entry, allowed_hosts) for entry in entries]
    if requires_token and not entries:
        return lambda _authority: True
    own = parse_address(bind)
    if own is not None and not _is_any_address(own.host):
        # A container's port can be published as another one.
        rules.append(_allow_host(Authority(own.host)))
    return lambda authority: authority.is_loopback or any(rule(authority) for rule in rules)


def check_host(request: Request, is_allowed: HostPolicy) -> None:
    """Check every name that a request, and a trusted proxy in front, give for this service.

    Raises:
        UnknownHost: there is none, or one of them is not allowed.
    """
    for text in _list_names(request):
        authority = parse_authority(text)
        if authority is None or not is_allowed(authority):
            raise UnknownHost(
                f"This service is not served under the name {text[:_MAX_SHOWN]!r}: use the address that its operator "
                "gave you. The operator allows further names by MASKMILL_ALLOWED_HOSTS."
            )


def check_prefix(request: Request) -> None:
    """Check the prefix of the paths of this service that a trusted proxy in front gives; of others it is not read.

    Raises:
        BadPrefix: no path can begin with it.
    """
    refused = request.environ.get(REFUSED_PREFIX_KEY)
    if refused is not None:
        raise BadPrefix(
            f"X-Forwarded-Prefix is {refused[:_MAX_SHOWN]!r}, not a path such as /masks: the proxy in front of this "
            "service must set the header to the prefix under which it serves, or remove it."
        )


def _list_names(request: Request) -> Iterable[str]:
    environ = request.environ
    yield environ.get("HTTP_HOST") or ""
    if _BEFORE_PROXY_KEY in environ:
        # HTTP_HOST is what the proxy forwarded; this is what it, or a page in its place, sent itself.
        yield environ[_BEFORE_PROXY_KEY]["HTTP_HOST"] or ""
    # The absolute form, `GET http://name/path`, in which the name of the target counts and not the header
    # (RFC 9112, section 3.2.2).
    target = environ.get("RAW_URI", "/")
    if _ABSOLUTE_TARGET.match(target):
        yield _split_netloc(target)


def _split_netloc(target: str) -> str:
    try:
        return urlsplit(target).netloc
    except ValueError:
        return ""


def _build_rule(entry: str, text: str) -> HostPolicy:
    if entry == ANY_HOST:
        return lambda _authority: True
    suffix = parse_authority(entry.removeprefix("*."))
    if suffix is None:
        raise ValueError(f"MASKMILL_ALLOWED_HOSTS: {quote_entry(entry, text)} is not a host, host:port, *.host or *")
    if not entry.startswith("*."):
        return _allow_host(suffix)
    return lambda found: found.host.endswith(f".{suffix.host}") and suffix.port in (None, found.port)


def _allow_host(allowed: Authority) -> HostPolicy:
    return lambda found: found.host == allowed.host and allowed.port in (None, found.port)


def _is_any_address(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
