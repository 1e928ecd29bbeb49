"""Stuff labels for images of which only things are annotated, predicted by trained models.

    python -m worker.training.surfaces --labelled DIR --models DIR [DIR ...] --out DIR

copies a folder with partial ground truth and labels what shows no certain category: pixels where the models agree on a
kind of stuff show it, with a confidence below that of an annotation.  This is self-training (Xie et al., "Self-training
with Noisy Student", 2020): the labels of several models together are better than those of each, and a training that
shows mostly things does not forget the stuff.
"""

import argparse
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from PIL.Image import Resampling
from torch import Tensor
from torch.nn.functional import interpolate

from worker.engine.coco_classes import STUFF
from worker.training.coco_panoptic import NOT_CERTAIN_NAME
from worker.training.network import class_names, get_query_classes
from worker.training.partial_truth import PartialSegment, PartialTruth, read_folder, write_folder
from worker.training.prediction import load_network, predict

log = logging.getLogger(__name__)

# Side of the maps in which classes are compared, in pixels.
MAP_SIDE: Final = 160
# A pixel whose most probable class has a lower score stays unlabelled.
MIN_SCORE: Final = 0.7
# A kind of stuff with a smaller share of the image stays unlabelled.
MIN_AREA: Final = 0.02
# Of an annotation, the confidence is 1.
MAX_CONFIDENCE: Final = 0.4


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Label the stuff of images of which only things are annotated.")
    parser.add_argument("--labelled", type=Path, required=True, metavar="DIR", help="partial ground truth")
    parser.add_argument(
        "--models", type=Path, nargs="+", required=True, metavar="DIR", help="folders of trained models"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    networks = [load_network(folder) for folder in options.models]
    write_folder(options.out, options.labelled / "images", label_folder(options.labelled, networks))


def label_folder(folder: Path, networks: Sequence[Any]) -> Iterator[PartialTruth]:
    names = class_names(networks[0].config)
    for truth in read_folder(folder):
        image = Image.open(folder / "images" / truth.file)
        scores = torch.stack([score_classes(network, image) for network in networks]).mean(0).numpy()
        labelled = label_surfaces(truth, scores, names)
        log.info("%s: %d surfaces", truth.file, len(labelled.segments) - len(truth.segments))
        yield labelled


def score_classes(network: Any, image: Image.Image) -> Tensor:
    """Return (C, MAP_SIDE, MAP_SIDE) float32: how far a class is shown at a pixel, in [0, 1].

    It is the maximum, over the queries of the class, of class probability times mask probability.
    """
    output = predict(network, image)
    classes = torch.tensor(get_query_classes(network.config))
    probs = output.class_queries_logits[0].softmax(-1).gather(1, classes[:, None])  # (Q, 1)
    masks = interpolate(output.masks_queries_logits, (MAP_SIDE, MAP_SIDE), mode="bilinear", align_corners=False)
    shown = probs[..., None] * masks[0].sigmoid()
    return torch.stack([shown[classes == label].amax(0) for label in range(len(network.config.id2label))])


def label_surfaces(truth: PartialTruth, scores: NDArray[np.float32], names: Sequence[str]) -> PartialTruth:
    """Add a segment for each kind of stuff that covers enough of what shows no certain category.

    Args:
        scores: (C, h, w), see score_classes.
        names: of the C classes.
    """
    size = truth.ids.shape[::-1]
    best = Image.fromarray(scores.argmax(0).astype(np.uint8)).resize(size, Resampling.NEAREST)
    highest = Image.fromarray(scores.max(0)).resize(size, Resampling.BILINEAR)
    is_open = np.isin(truth.ids, [place for place, one in truth.numbered if one.category == NOT_CERTAIN_NAME])
    is_sure = is_open & (np.asarray(highest) >= MIN_SCORE)
    ids, segments = truth.ids.copy(), list(truth.segments)
    confidence = np.ones(ids.shape, np.float32)
    for label, name in enumerate(names):
        inside = is_sure & (np.asarray(best) == label)
        if name in STUFF and inside.mean() >= MIN_AREA:
            segments.append(PartialSegment(name))
            ids[inside], confidence[inside] = len(segments), MAX_CONFIDENCE * np.asarray(highest)[inside]
    return replace(truth, ids=ids, segments=tuple(segments), confidence=confidence)


if __name__ == "__main__":
    main()
