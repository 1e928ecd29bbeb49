"""Which of the uploads under way makes room for the bytes of another when the budget is full.  No I/O and no clock."""

import heapq
from typing import Protocol, TypeVar

from api.server.peers import PeerShares

# A peer with more than one part of the budget is heavy.
HEAVY_SHARE = 4
_MAX_PEERS = 4


class Upload(Protocol):
    """A head or a body that comes, with the deadline of its transfer; `uploader`: the peer that it counts to."""

    deadline: float
    uploader: str | None

    def __hash__(self) -> int: ...


UploadT = TypeVar("UploadT", bound=Upload)


def find_loser(
    uploads: PeerShares[UploadT], newcomer: UploadT, nbytes: int, *, slow_before: float, max_bytes: int
) -> UploadT | None:
    """Return the upload that makes room for `nbytes` of another, or None if that one has to be refused.

    It is one of the peers that hold the most: one that has stood still, or one of a peer that is heavy and holds more
    than the newcomer's.  Others go on, or no large upload would ever complete while there are too many.

    Args:
        slow_before: an upload with an earlier deadline has stood still for long.
        max_bytes: the size of the budget.
    """
    own_bytes = uploads.get_sum(newcomer.uploader) + nbytes
    for peer in heapq.nlargest(_MAX_PEERS, uploads.sums, key=uploads.get_sum):
        held = uploads.get_sum(peer)
        slowest = _find_slowest(uploads, peer)
        is_heavy = held > max(own_bytes, max_bytes // HEAVY_SHARE) and peer != newcomer.uploader
        if slowest is not newcomer and (is_heavy or slowest.deadline < slow_before):
            return slowest
    return None


def _find_slowest(uploads: PeerShares[UploadT], peer: str | None) -> UploadT:
    """Return the slowest upload of a peer among those that hold half of its average or more, so that much is freed."""
    items = uploads.list_items(peer)
    enough = uploads.get_sum(peer) / len(items) / 2
    return min((one for one in items if uploads.get_amount(one) >= enough), key=lambda one: one.deadline)
