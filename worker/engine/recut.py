"""A recut on a CPU: post-process kept logits with other parameters, as the engine would after a forward pass."""

import torch

from shared.errors import BadParameter
from shared.jobs.parameters import SegmentParameters, Subtask
from shared.jobs.recut import check_kept
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.selection import restore_logits
from worker.engine.postprocessing.types import Budget, PostprocessOptions
from worker.recut.file import RecutData
from worker.segmenter import Segmentation


@torch.inference_mode()
def recut(data: RecutData, parameters: SegmentParameters, size: tuple[int, int], budget: Budget) -> Segmentation:
    """Segment an image again from its kept logits.

    Args:
        size: (height, width) of the label map in pixels: those of the image, or of a preview.

    Raises:
        BadParameter: the model does not say which of its classes are stuff, so none can be fused.
        ThresholdBelowFloor, AllQueriesNeeded: queries that these parameters need were not kept.
    """
    check_kept(parameters, floor=data.logits.floor, has_all_queries=data.logits.has_all_queries)
    if parameters.fuse_stuff and data.classes.stuff is None:
        raise BadParameter(f"{data.model} does not say which of its classes are stuff, so none can be fused.")
    options = PostprocessOptions(size, parameters, budget, data.classes.stuff or frozenset())
    result = postprocess(restore_logits(data.logits), parameters.subtask or Subtask.PANOPTIC, options)
    return measure_segments(result.label_map.numpy(), result.labels, data.classes.names, stuff=data.classes.stuff)
