"""Choose the post-processing of a subtask."""

from collections.abc import Callable, Mapping
from typing import Final

from shared.jobs.parameters import Subtask
from worker.engine.postprocessing.instance import postprocess_instance
from worker.engine.postprocessing.panoptic import postprocess_panoptic
from worker.engine.postprocessing.semantic import postprocess_semantic
from worker.engine.postprocessing.types import LabelMapResult, Logits, PostprocessOptions

Postprocessor = Callable[[Logits, PostprocessOptions], LabelMapResult]
POSTPROCESSORS: Final[Mapping[Subtask, Postprocessor]] = {
    Subtask.PANOPTIC: postprocess_panoptic,
    Subtask.INSTANCE: postprocess_instance,
    Subtask.SEMANTIC: postprocess_semantic,
}


def postprocess(logits: Logits, subtask: Subtask, options: PostprocessOptions) -> LabelMapResult:
    """Return the segments of one image: those of transformers, unless the parameters use an extension of ours."""
    return POSTPROCESSORS[subtask](logits, options)
