"""Which URLs of clients are used.  Nothing is resolved or sent here, so a gateway can ask before it accepts one.

No sentence repeats a part of a URL: a path or a query may hold a secret.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import quote, urlsplit

from shared.authority import Authority, parse_authority, wrap_ipv6
from shared.errors import ForbiddenUrl
from shared.outgoing.addresses import Address, Network, is_in, is_public, parse_literal

MAX_URL_CHARS: Final = 2048
MAX_PORT: Final = 65_535
# By the values of MASKMILL_URL_INPUTS.
URL_SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {"off": (), "https": ("https",), "http": ("http", "https")}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_LOCALHOST: Final = "localhost"
# What programs read in different ways, or cut off.
_AMBIGUOUS: Final = re.compile(r"[\x00-\x20\x7f\\]")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,30}:")
# Of RFC 3986, and the percent sign, for text that is encoded already.
_TARGET_CHARACTERS: Final = "/?:@!$&'()*+,;=-._~%[]"


@dataclass(frozen=True, slots=True)
class OutgoingPolicy:
    """What requests to servers that a client names may reach.

    schemes: in lower case.
    allowed_hosts: names in lower case whose addresses may be any.
    allowed_networks: whose addresses may be reached although they are not public.
    """

    schemes: frozenset[str] = frozenset({"https"})
    allowed_hosts: frozenset[str] = frozenset()
    allowed_networks: tuple[Network, ...] = ()

    @classmethod
    def build(cls, schemes: Iterable[str], allowed: str = "") -> Self:
        """Return the policy of settings.

        Raises:
            ValueError: as from parse_allowed().
        """
        hosts, networks = parse_allowed(allowed)
        return cls(frozenset(schemes), hosts, networks)

    def allows_address(self, host: str, address: Address) -> bool:
        """Tell whether a connection may be made to an address that a host resolved to, or is."""
        return host in self.allowed_hosts or is_public(address) or is_in(address, self.allowed_networks)


@dataclass(frozen=True, slots=True)
class OutgoingUrl:
    """A URL that was checked; the connection uses these parts, so that no other parser reads the text again.

    host: in lower case and ASCII, without a trailing dot and brackets.
    target: path and query, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """Return host and port, as in a Host header."""
        host = wrap_ipv6(self.host)
        return host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"


def parse_allowed(text: str) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Read hosts and networks, separated by commas or spaces; an address is a network of one.

    Raises:
        ValueError: one of them is neither.
    """
    hosts, networks = set(), []
    for entry in text.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            hosts.add(_parse_allowed_host(entry))
    return frozenset(hosts), tuple(networks)


def _parse_allowed_host(entry: str) -> str:
    authority = parse_authority(entry)
    if authority is None or authority.port is not None or "/" in entry or _is_number(authority.host):
        raise ValueError("has an entry that is no host and no network; write them as in images.internal, 10.1.0.0/16")
    return authority.host


def _is_number(host: str) -> bool:
    try:
        return parse_literal(host) is not None
    except ValueError:
        return True


def strip_secrets(url: str) -> str:
    """Return a URL that check_url() accepts without its query and fragment, which may hold a signature."""
    return url.partition("?")[0].partition("#")[0]


def check_url(url: str, policy: OutgoingPolicy) -> OutgoingUrl:
    """Return a URL of a client in its parts; names are not resolved yet.

    Raises:
        ForbiddenUrl: it is no URL, has a forbidden scheme or credentials, names an address that is not public, or is
            too long.
    """
    if len(url) > MAX_URL_CHARS:
        raise ForbiddenUrl(f"The URL has more than {MAX_URL_CHARS} characters.")
    if _AMBIGUOUS.search(url) or not _SCHEME.match(url):
        raise ForbiddenUrl("The URL is not valid: write it with a scheme, and with blanks and backslashes encoded.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ForbiddenUrl("The URL is not valid.") from None
    if parts.scheme not in policy.schemes:
        raise ForbiddenUrl(f"The URL has a scheme that is not allowed; allowed: {', '.join(sorted(policy.schemes))}.")
    if "@" in parts.netloc:
        raise ForbiddenUrl("The URL holds a user name or a password; write it without.")
    authority = _read_authority(parts.netloc)
    _check_host(authority.host, policy)
    target = quote(parts.path or "/", safe=_TARGET_CHARACTERS)
    query = quote(parts.query, safe=_TARGET_CHARACTERS)
    port = _DEFAULT_PORTS[parts.scheme] if authority.port is None else authority.port
    return OutgoingUrl(parts.scheme, authority.host, port, f"{target}?{query}" if query else target)


def _read_authority(text: str) -> Authority:
    """Return host and port of a URL, with an international name in its ASCII form.

    Raises:
        ForbiddenUrl: there is no host, or a port that does not exist.
    """
    try:
        # Maps digits and dots of other scripts to those of ASCII too, so that they are checked as such.
        ascii_text = text if text.isascii() else text.encode("idna").decode("ascii")
    except UnicodeError:
        ascii_text = ""
    authority = parse_authority(ascii_text)
    if authority is None or not (authority.port is None or 0 < authority.port <= MAX_PORT):
        raise ForbiddenUrl("The URL has no host, or one that is not valid, or a port that does not exist.")
    return authority


def _check_host(host: str, policy: OutgoingPolicy) -> None:
    try:
        literal = parse_literal(host)
    except ValueError:
        raise ForbiddenUrl("The URL spells an address as a number; write it as four decimals or as a name.") from None
    if literal is not None and not policy.allows_address(host, literal):
        raise ForbiddenUrl("The URL names an address that is not public.")
    is_local = host == _LOCALHOST or host.endswith(f".{_LOCALHOST}")
    if is_local and host not in policy.allowed_hosts:
        raise ForbiddenUrl("The URL names this machine.")
