"""Any other model of transformers' task `image-segmentation`, through the steps of transformers' own pipeline.

One image at a time and without optimizations: the result is what the pipeline returns.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL.Image import fromarray
from transformers import ImageSegmentationPipeline

from shared.errors import BadParameter, MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.classes import build_facts, get_class_names, get_stuff_classes
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.types import ScoredLabel
from worker.engine.preparation import bound_input, explain_failure, translate_preparation_errors
from worker.engine.warm_up import segment_blank_image
from worker.recut.kept import RecutModel
from worker.segmenter import ForwardPass, ModelImage, Prepared, Resize, Segmentation


class TransformersSegmenter:
    """Implements `Segmenter` with a pipeline that was built for the device.

    max_input_pixels: what the model gets of one image at most.
    """

    def __init__(
        self, pipeline: ImageSegmentationPipeline, *, model: str, revision: str, device: str, max_input_pixels: int
    ) -> None:
        self.model = model
        self.revision = revision
        self.device = device
        self.resize: Resize | None = None
        self.forward_pass = ForwardPass()
        # What its post-processing starts from differs from family to family.
        self.recut_model: RecutModel | None = None
        self._pipeline: Any = pipeline
        self._processor = bound_input(pipeline.image_processor, max_input_pixels)
        self.facts = build_facts(pipeline.model.config)
        self._names = get_class_names(pipeline.model.config)
        self._stuff = get_stuff_classes(pipeline.model.config)
        self._label_ids = {name: number for number, name in self._names.items()}
        self._subtasks = list_subtasks(self._processor)
        # For every image it warns of label_ids_to_fuse, which the pipeline offers no way to set.
        logging.getLogger(type(self._processor).__module__).setLevel(logging.ERROR)

    def prepare(self, image: ModelImage) -> Prepared:
        parameters = image.parameters
        if parameters.subtask is not None and parameters.subtask not in self._subtasks:
            known = ", ".join(self._subtasks)
            raise BadParameter(f"{self.model} has no subtask {parameters.subtask}; it has: {known}.")
        if parameters.fuse_stuff or parameters.strict_instance_thresholds:
            raise BadParameter(f"{self.model} has neither fuse_stuff nor strict_instance_thresholds: Mask2Former has.")
        with translate_preparation_errors(self._processor, image):
            pixels = self._pipeline.preprocess(fromarray(image.pixels), subtask=get_subtask_name(parameters.subtask))
        return Prepared(pixels, image.height, image.width, parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        return [self._segment_one(item) for item in batch]

    def warm_up(self) -> None:
        segment_blank_image(self, SegmentParameters())

    @torch.inference_mode()
    def _segment_one(self, item: Prepared) -> Segmentation | MaskmillError:
        parameters = item.parameters
        try:
            annotations = self._pipeline.postprocess(
                self._pipeline.forward(item.pixels),
                subtask=get_subtask_name(parameters.subtask),
                threshold=parameters.threshold,
                mask_threshold=parameters.mask_threshold,
                overlap_mask_area_threshold=parameters.overlap_mask_area_threshold,
            )
            return self._merge_masks(annotations, item)
        except Exception as error:
            rows, columns = item.pixels["pixel_values"].shape[-2:]
            return explain_failure(error, (rows, columns), (item.height, item.width))

    def _merge_masks(self, annotations: Sequence[Mapping[str, Any]], item: Prepared) -> Segmentation:
        """Write the pipeline's masks into one label map; where masks overlap, the last one is on top."""
        label_map = np.zeros((item.height, item.width), np.uint8 if len(annotations) < 256 else np.uint16)
        for number, annotation in enumerate(annotations, start=1):
            label_map[np.asarray(annotation["mask"]) > 0] = number
        labels = [ScoredLabel(self._label_ids[one["label"]], one["score"]) for one in annotations]
        return measure_segments(label_map, labels, self._names, stuff=self._stuff)


def list_subtasks(processor: object) -> tuple[Subtask, ...]:
    """Return the subtasks that an image processor supports, in the pipeline's order of preference."""
    return tuple(subtask for subtask in Subtask if hasattr(processor, f"post_process_{subtask}_segmentation"))


def get_subtask_name(subtask: Subtask | None) -> str | None:
    return None if subtask is None else subtask.value
