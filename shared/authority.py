"""Host and port as clients, browsers and operators write them: in a Host header, an origin, an address to listen on."""

import ipaddress
import re
from dataclasses import dataclass

_LOCALHOST = "localhost"
# A name or an IPv4 address, or an IPv6 address in brackets.  No user, no comma of two joined headers, no zone.
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]{2,45})\]|(?P<name>[a-z0-9_-][a-z0-9._-]{0,252}?)\.?)(?::(?P<port>[0-9]{1,5})?)?"
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,30}")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_MAX_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and a port, as in a Host header; `port` is None if it is not named.

    host: in lower case, without a trailing dot; an IPv6 address in its short form and without brackets.
    """

    host: str
    port: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Tell whether no other machine can be meant: `localhost`, or an address of the loopback networks."""
        try:
            return self.host == _LOCALHOST or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a web page (RFC 6454); the default port of its scheme is None."""

    scheme: str
    authority: Authority


def parse_authority(text: str) -> Authority | None:
    """Return the host and port of a Host header, or None if it is not one.

    >>> parse_authority("Example.org.:8000"), parse_authority("[0:0::1]")
    (Authority(host='example.org', port=8000), Authority(host='::1', port=None))
    """
    found = _AUTHORITY.fullmatch(text.strip(" \t").lower()) if len(text) <= 300 else None
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if found["ipv6"] is None:
        return Authority(found["name"], port)
    try:
        return Authority(str(ipaddress.IPv6Address(found["ipv6"])), port)
    except ValueError:
        return None


def parse_address(text: str) -> Authority | None:
    """Return the host and port of an address to listen on, or None if it is not one, such as `unix:/path`.

    An IPv6 address needs no brackets.

    >>> parse_address("::1:8000")
    Authority(host='::1', port=8000)
    """
    host, _, port = text.rpartition(":")
    return parse_authority(f"{wrap_ipv6(host)}:{port}")


def wrap_ipv6(host: str) -> str:
    """Return a host as it stands before a port: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def parse_origin(text: str) -> Origin | None:
    """Return an origin, or None if it is not one: `null`, an origin with a path or a user.

    >>> parse_origin("https://Example.org:443")
    Origin(scheme='https', authority=Authority(host='example.org', port=None))
    """
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or authority is None or rest != rest.strip() or not _SCHEME.fullmatch(scheme.lower()):
        return None
    if authority.port == _DEFAULT_PORTS.get(scheme.lower(), -1):
        authority = Authority(authority.host)
    return Origin(scheme.lower(), authority)


def parse_origins(text: str) -> frozenset[Origin]:
    """Read origins, separated by commas or spaces; a slash at the end, as in a browser's address bar, is not a path.

    Raises:
        ValueError: one of them is not an origin.
    """
    found = {entry: parse_origin(entry.removesuffix("/")) for entry in text.replace(",", " ").split()}
    for entry, origin in found.items():
        if origin is None:
            raise ValueError(f"{quote_entry(entry, text)} is not an origin such as https://app.example, without a path")
    return frozenset(origin for origin in found.values() if origin)


def quote_entry(entry: str, text: str) -> str:
    """Return an entry of a list for a sentence; not if the list may hold a password, a part of which it can be."""
    return "one of them" if "@" in text else entry[:_MAX_SHOWN]
