"""Who a client is by its address, and which of its connections without a request that runs is dropped first."""

import functools
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Item = TypeVar("Item", bound=Hashable)

# The network of one customer of a provider: its addresses are free to choose.
IPV6_PREFIX_BITS = 64


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse addresses and CIDR networks, separated by commas.

    Raises:
        ValueError: one of them is neither.
    """
    return tuple(ipaddress.ip_network(word.strip()) for word in text.split(",") if word.strip())


class PeerPolicy:
    """Tells peers apart, and knows the trusted proxies."""

    def __init__(self, trusted: tuple[Network, ...] = ()) -> None:
        self._trusted = trusted
        self._identify_host = functools.lru_cache(maxsize=4096)(self._identify)

    def identify(self, address: object) -> str | None:
        """Return the name of a peer, or None for a trusted proxy.

        Args:
            address: as accept() returns it.  That of a Unix socket is no tuple, and its clients are trusted proxies:
                only users of this machine with access to its path can connect.
        """
        return self._identify_host(address[0]) if isinstance(address, tuple) else None

    def identify_forwarded(self, addresses: str) -> str | None:
        """Return the name of the peer for which a trusted proxy forwards; None if it tells none.

        Args:
            addresses: of `X-Forwarded-For`; the proxy has added the last one.
        """
        try:
            return self._identify_host(addresses.rpartition(",")[2].strip())
        except ValueError:
            return None

    def _identify(self, host: str) -> str | None:
        ip = ipaddress.ip_address(host.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
            ip = ip.ipv4_mapped
        if any(ip in network for network in self._trusted):
            return None
        if isinstance(ip, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((ip, IPV6_PREFIX_BITS), strict=False))
        return str(ip)


class PeerShares(Generic[Item]):
    """Amounts that items hold, oldest first, and their sums by peer."""

    def __init__(self) -> None:
        self.total = 0
        self._amounts: dict[Item, tuple[str | None, int]] = {}
        self.sums: Counter[str | None] = Counter()
        self._by_peer: dict[str | None, dict[Item, None]] = {}

    def __len__(self) -> int:
        return len(self._amounts)

    def hold(self, item: Item, peer: str | None, amount: int) -> None:
        """Set what an item holds; it keeps its peer and its place."""
        peer, before = self._amounts.setdefault(item, (peer, 0))
        self._amounts[item] = peer, amount
        self._by_peer.setdefault(peer, {})[item] = None
        self.sums[peer] += amount - before
        self.total += amount - before

    def get_amount(self, item: Item) -> int:
        """Return what an item holds, 0 if it is not here."""
        return self._amounts.get(item, (None, 0))[1]

    def get_sum(self, peer: str | None) -> int:
        """Return what the items of a peer hold together."""
        return self.sums[peer]

    def list_items(self, peer: str | None) -> list[Item]:
        return list(self._by_peer[peer])

    def remove(self, item: Item) -> None:
        """Remove an item, if it is here."""
        if item not in self._amounts:
            return
        peer, amount = self._amounts.pop(item)
        self.sums[peer] -= amount
        self.total -= amount
        del self._by_peer[peer][item]
        if not self._by_peer[peer]:
            del self._by_peer[peer], self.sums[peer]

    def find_surplus(self) -> Item:
        """Return the oldest item of the peer whose items hold the most together."""
        heaviest = max(self.sums, key=self.get_sum)
        return next(iter(self._by_peer[heaviest]))


class WaitingConnections(Generic[Item]):
    """Connections without a request that runs, oldest first, in all and by peer."""

    def __init__(self, max_per_peer: int) -> None:
        self._max_per_peer = max_per_peer
        self._peers: OrderedDict[Item, str | None] = OrderedDict()
        self._by_peer: dict[str, OrderedDict[Item, None]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def add(self, item: Item, peer: str | None) -> Item | None:
        """Add a connection as the newest; return the one that exceeds the bound of its peer, its oldest."""
        self.remove(item)
        self._peers[item] = peer
        if peer is None:
            return None
        siblings = self._by_peer.setdefault(peer, OrderedDict())
        siblings[item] = None
        return next(iter(siblings)) if len(siblings) > self._max_per_peer else None

    def remove(self, item: Item) -> None:
        """Remove a connection, if it is here."""
        peer = self._peers.pop(item, None)
        if peer is None:
            return
        siblings = self._by_peer[peer]
        del siblings[item]
        if not siblings:
            del self._by_peer[peer]

    def get_oldest(self) -> Item | None:
        """Return the oldest of the peer that has the most; one of a trusted proxy only if there is no other."""
        if not self._by_peer:
            return next(iter(self._peers), None)
        heaviest = max(self._by_peer, key=lambda peer: len(self._by_peer[peer]))
        return next(iter(self._by_peer[heaviest]))
