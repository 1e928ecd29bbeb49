"""Any other model of transformers' task `image-segmentation`, through the reference pipeline's own steps.

One image at a time and no shortcuts: what the pipeline answers is the result.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from transformers import ImageSegmentationPipeline

from shared.errors import BadParameter, MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.mask2former.segmenter import class_names, failure_of, try_out
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.types import ScoredLabel
from worker.segmenter import Prepared, Segmentation


class TransformersSegmenter:
    """Fills `Segmenter` with a pipeline that was built for the device."""

    def __init__(self, pipeline: ImageSegmentationPipeline, *, model: str, revision: str, device: str) -> None:
        self.model = model
        self.revision = revision
        self.device = device
        self._pipeline: Any = pipeline
        self._names = class_names(pipeline.model.config)
        self._label_ids = {name: number for number, name in self._names.items()}
        self._subtasks = subtasks_of(pipeline.image_processor)
        # It warns of label_ids_to_fuse, which the pipeline offers no way to set, with every image.
        logging.getLogger(type(pipeline.image_processor).__module__).setLevel(logging.ERROR)

    def prepare(self, image: Image, parameters: SegmentParameters) -> Prepared:
        if parameters.subtask is not None and parameters.subtask not in self._subtasks:
            known = ", ".join(self._subtasks)
            raise BadParameter(f"{self.model} has no subtask {parameters.subtask}; it has: {known}.")
        if parameters.fuse_stuff or parameters.strict_instance_thresholds:
            raise BadParameter(f"{self.model} has neither fuse_stuff nor strict_instance_thresholds: Mask2Former has.")
        pixels = self._pipeline.preprocess(image, subtask=name_of(parameters.subtask))
        return Prepared(pixels, image.height, image.width, parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [self._segment_one(item) for item in batch]

    def warm_up(self) -> None:
        try_out(self, SegmentParameters())

    @torch.inference_mode()
    def _segment_one(self, item: Prepared) -> Segmentation | MaskmillError:
        wanted = item.parameters
        try:
            answer = self._pipeline.postprocess(
                self._pipeline.forward(item.pixels),
                subtask=name_of(wanted.subtask),
                threshold=wanted.threshold,
                mask_threshold=wanted.mask_threshold,
                overlap_mask_area_threshold=wanted.overlap_mask_area_threshold,
            )
            return self._canonical(answer, item)
        except Exception as error:
            return failure_of(error)

    def _canonical(self, answer: Sequence[Mapping[str, Any]], item: Prepared) -> Segmentation:
        label_map = np.zeros((item.height, item.width), np.uint8 if len(answer) < 256 else np.uint16)
        for number, annotation in enumerate(answer, start=1):
            label_map[np.asarray(annotation["mask"]) > 0] = number
        labels = [ScoredLabel(self._label_ids[one["label"]], one["score"]) for one in answer]
        return measure_segments(label_map, labels, self._names)


def subtasks_of(processor: object) -> tuple[Subtask, ...]:
    """Return what the model can be asked for, in the order in which the pipeline prefers them."""
    return tuple(subtask for subtask in Subtask if hasattr(processor, f"post_process_{subtask}_segmentation"))


def name_of(subtask: Subtask | None) -> str | None:
    return None if subtask is None else subtask.value
