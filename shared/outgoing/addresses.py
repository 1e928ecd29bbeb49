"""Which IP addresses belong to the public internet, and how hosts of URLs spell them.

The networks are those of the IANA registries of special-purpose addresses (RFC 6890), read strictly: an address that
stands for another one (IPv4 in IPv6 by mapping, translation or a tunnel) is not public, because the operating system
or a gateway may connect to the other one.
"""

import ipaddress
import re
from collections.abc import Iterable
from typing import Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# The only IPv6 addresses that are routed in the internet; IPv4-mapped, -compatible and -translated ones lie outside.
_GLOBAL_UNICAST: Final = ipaddress.ip_network("2000::/3")
# Besides those for which the standard library says so; its list depends on the version of Python.
_SPECIAL: Final = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # shared by the customers of a provider, also for the services of some clouds
        "168.63.129.16/32",  # the host of a virtual machine of Azure
        "192.0.0.0/24",
        "192.88.99.0/24",  # relays of 6to4
        "198.18.0.0/15",
        "224.0.0.0/3",
        "2001::/23",  # with Teredo and ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
_LAST_LABEL: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


def is_public(address: Address) -> bool:
    """Tell whether an address belongs to one machine of the public internet, and to nothing nearer."""
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global and not is_in(address, _SPECIAL)


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Tell whether an address lies in one of several networks of either version."""
    return any(address in network for network in networks if network.version == address.version)


def parse_literal(host: str) -> Address | None:
    """Return the address that a host in lower case is, or None if it is a name.

    Resolvers read more forms of IPv4 than four decimals: `2130706433`, `0x7f.1` and `0177.0.0.1` are 127.0.0.1.

    Raises:
        ValueError: it is such a form; two programs may read it as different addresses.
    """
    if ":" in host:
        return ipaddress.IPv6Address(host)
    if not _LAST_LABEL.fullmatch(host.rpartition(".")[2]):
        return None
    return ipaddress.IPv4Address(host)


def parse_resolved(text: str) -> Address:
    """Return an address as a resolver gives it; a zone, which names a network of this machine, is not kept.

    Raises:
        ValueError: it is none.
    """
    return ipaddress.ip_address(text.partition("%")[0])
