"""The values of a recut: what a model can say of itself, what is kept of an image, and by which rule."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Which logits of an image are kept.

    floor: queries that no threshold from this score on could select are dropped; in [0, 1].
    max_bytes: of all that is kept, uncompressed; beyond it the queries of the least scores are dropped too.
    keeps_all: whether all queries are kept, of any score, as semantic segmentation needs.
    """

    floor: float
    max_bytes: int
    keeps_all: bool = False


@dataclass(frozen=True, slots=True)
class RecutModel:
    """What a recut needs of the model beside its logits.

    names: the name of each label id.
    stuff: label ids that `fuse_stuff` merges; None if they are unknown.
    """

    names: Mapping[int, str]
    stuff: frozenset[int] | None


@dataclass(frozen=True, slots=True, eq=False)
class KeptLogits:
    """A model's output for one image, without the masks of queries that no allowed threshold selects.

    floor: the lowest threshold that gives what all queries would give; above that of the rule if some were dropped
        because of its bound.
    class_logits: (Q, C + 1) float32 of all queries; the last class is "no object".
    queries: (k,) int64, ascending: the queries of which the masks are kept.
    mask_logits: (k, h, w) float32, at the resolution of the network.
    """

    floor: float
    class_logits: NDArray[np.float32]
    queries: NDArray[np.int64]
    mask_logits: NDArray[np.float32]

    @property
    def nbytes(self) -> int:
        """Return the number of bytes of all logits."""
        return self.class_logits.nbytes + self.mask_logits.nbytes

    @property
    def has_all_queries(self) -> bool:
        """Tell whether no query was dropped, so that a semantic recut is possible."""
        return len(self.queries) == len(self.class_logits)
