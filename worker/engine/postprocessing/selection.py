"""Select the logits that a recut needs, and put them back in their places.

A recut post-processes what was kept as if the other masks were zero.  It gives the bits that all masks would,
because post-processing drops these queries by their scores, before it looks at their masks.
"""

import numpy as np
import torch
from torch import Tensor

from worker.engine.postprocessing.candidates import ROUNDING_MARGIN
from worker.engine.postprocessing.types import Logits
from worker.recut.kept import KeepRule, KeptLogits


def select_logits(logits: Logits, rule: KeepRule) -> KeptLogits:
    """Return copies, on the host, of what a recut with any threshold from the floor on needs.

    From a GPU two transfers: of the queries' numbers, which are few, and of all that is kept.
    """
    best = best_scores(logits.classes).cpu()  # (Q,)
    is_kept = torch.ones_like(best, dtype=torch.bool) if rule.keeps_all else best >= rule.floor
    floor = drop_least(best, is_kept, count_planes(logits, rule.max_bytes))
    queries = is_kept.nonzero().flatten()
    classes, masks = copy_to_host(logits, queries)
    return KeptLogits(max(rule.floor, floor), classes.numpy(), queries.numpy(), masks.numpy())


def best_scores(class_logits: Tensor) -> Tensor:
    """Return the least upper bound of the thresholds at which a query may still be selected: (Q, C + 1) -> (Q,).

    Panoptic segmentation selects a query by its best class, unless that is "no object"; instance segmentation selects
    pairs of query and class among the Q most probable ones, with a margin for rounding.
    """
    probs = class_logits.softmax(-1)
    scores, labels = probs.max(-1)
    panoptic = torch.where(labels.ne(class_logits.shape[-1] - 1), scores, 0.0)
    class_probs = probs[:, :-1]
    # The same call as in instance segmentation, so that ties at the end of the selection are broken alike.
    pair_scores, pairs = class_probs.flatten().topk(len(class_probs), sorted=False)
    queries = pairs // class_probs.shape[1]
    return panoptic.scatter_reduce(0, queries, pair_scores * (1 + ROUNDING_MARGIN), "amax")


def count_planes(logits: Logits, max_bytes: int) -> int:
    """Return of how many queries the masks fit into a number of bytes, beside the class logits of all."""
    rows, columns = logits.masks.shape[-2:]
    return max(0, (max_bytes - logits.classes.nbytes) // (logits.masks.element_size() * rows * columns))


def drop_least(best: Tensor, is_kept: Tensor, limit: int) -> float:
    """Keep at most `limit` queries, those of the best scores; return the floor above the dropped ones, or 0.

    Args:
        best: (Q,), see best_scores().
        is_kept: (Q,) bool, changed in place.
    """
    kept = is_kept.nonzero().flatten()
    if len(kept) <= limit:
        return 0.0
    dropped = kept[best[kept].argsort(descending=True, stable=True)[limit:]]
    is_kept[dropped] = False
    return float(np.nextafter(np.float32(best[dropped].max()), np.float32(2)))


def copy_to_host(logits: Logits, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Return copies of the class logits and of the masks of some queries, in one transfer.

    Copies also on a CPU: the logits of one image are parts of those of its batch.
    """
    masks = logits.masks[queries.to(logits.masks.device)]
    if masks.device.type == "cpu":
        return logits.classes.clone(), masks
    merged = torch.cat([logits.classes.flatten(), masks.flatten()]).cpu()
    count = logits.classes.numel()
    return merged[:count].view(logits.classes.shape), merged[count:].view(masks.shape)


def restore_logits(kept: KeptLogits) -> Logits:
    """Return logits of all queries; the masks that were not kept are zero."""
    rows, columns = kept.mask_logits.shape[-2:]
    # Pages of zeros take neither time nor memory before they are touched.
    masks = np.zeros((len(kept.class_logits), rows, columns), np.float32)
    masks[kept.queries] = kept.mask_logits
    return Logits(torch.from_numpy(kept.class_logits), torch.from_numpy(masks))
