"""Names under which the gateway serves: the check of the Host header, against DNS rebinding.

A page whose own name was made to resolve to this machine is of the gateway's origin to a browser, and may read every
response.  The Host header holds that name, and a page cannot change it.
"""

import ipaddress
import re
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from flask import Request

from shared.authority import Authority, parse_address, parse_authority
from shared.errors import UnknownHost

ANY_HOST = "*"
_MAX_SHOWN = 100
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
    rules = [_build_rule(entry) for entry in entries]
    if requires_token and not entries:
        return lambda _authority: True
    own = parse_address(bind)
    if own is not None and not _is_any_address(own.host):
        # A container's port can be published as another one.
        rules.append(_allow_host(Authority(own.host)))
    return lambda authority: authority.is_loopback or any(rule(authority) for rule in rules)


def check_host(request: Request, is_allowed: HostPolicy) -> None:
    """Check every name that a request gives for this service; X-Forwarded-Host is not read.

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


def _list_names(request: Request) -> Iterable[str]:
    yield request.environ.get("HTTP_HOST", "")
    # The absolute form, `GET http://name/path`, in which the name of the target counts and not the header
    # (RFC 9112, section 3.2.2).
    target = request.environ.get("RAW_URI", "/")
    if _ABSOLUTE_TARGET.match(target):
        yield _split_netloc(target)


def _split_netloc(target: str) -> str:
    try:
        return urlsplit(target).netloc
    except ValueError:
        return ""


def _build_rule(entry: str) -> HostPolicy:
    if entry == ANY_HOST:
        return lambda _authority: True
    suffix = parse_authority(entry.removeprefix("*."))
    if suffix is None:
        raise ValueError(f"MASKMILL_ALLOWED_HOSTS: {entry[:_MAX_SHOWN]} is not a host, host:port, *.host or *")
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
