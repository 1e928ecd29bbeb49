"""Mask2Former behind the port of worker/segmenter.py: batches on one device, post-processing where the logits are."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from PIL.Image import fromarray
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil

from shared.errors import BadParameter, MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.classes import build_facts, get_class_names, get_stuff_classes
from worker.engine.errors import translate_error
from worker.engine.execution_plan import ExecutionPlan
from worker.engine.mask2former.forward import build_forward, compile_forward
from worker.engine.mask2former.normalization import build_normalization, normalize
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.selection import select_logits
from worker.engine.postprocessing.types import Budget, Logits, PostprocessOptions
from worker.engine.preparation import bound_input, explain_failure, translate_preparation_errors
from worker.engine.warm_up import new_blank_image, segment_blank_image
from worker.recut.kept import RecutModel
from worker.segmenter import ForwardPass, ModelImage, Prepared, Resize, Segmentation, prepare_image

EXACT: Final = ExecutionPlan()
# Calls until a compiled batch size runs at full speed: compile, record the CUDA graph, replay it.
COMPILED_WARM_UP_CALLS: Final = 3


class Mask2FormerSegmenter:
    """Implements `Segmenter`.

    With the default plan the results equal those of transformers, on a CPU bit for bit, with any other images in the
    batch: there each image has a forward pass of its own, because sums are rounded differently in batches.
    """

    def __init__(
        self,
        network: Mask2FormerForUniversalSegmentation,
        processor: Mask2FormerImageProcessorPil,
        *,
        model: str,
        revision: str,
        device: str,
        plan: ExecutionPlan = EXACT,
    ) -> None:
        self.model = model
        self.revision = plan.tag_revision(revision)
        self.device = device
        self._plan = plan
        self._network = build_forward(network.eval().to(device), plan)  # type: ignore[no-untyped-call]
        self.forward_pass = ForwardPass(
            "exact" if self._network is network else "fast", dtype=str(plan.dtype).removeprefix("torch.")
        )
        self._is_batched = self.forward_pass.kind == "fast" or torch.device(device).type != "cpu"
        self._compiled = compile_forward(self._network, plan, device)
        # The shapes compiled in warm_up(); later calls never compile.
        self._compiled_shapes: set[tuple[int, ...]] = set()
        self._processor = bound_input(processor, plan.max_input_pixels)
        self.resize = get_resize(processor)
        self._normalization = build_normalization(processor).to(device)
        self.facts = build_facts(network.config)
        self._names = get_class_names(network.config)
        self._stuff = get_stuff_classes(network.config)
        self.recut_model: RecutModel | None = RecutModel(self._names, self._stuff)
        self._budget = Budget(plan.band_bytes)

    def prepare(self, image: ModelImage) -> Prepared:
        if image.parameters.fuse_stuff and self._stuff is None:
            raise BadParameter(f"{self.model} does not say which of its classes are stuff, so none can be fused.")
        if self.resize is None:
            with translate_preparation_errors(self._processor, image):
                pixels = self._processor(images=[fromarray(image.pixels)], return_tensors="pt")["pixel_values"][0]
        else:
            pixels = torch.from_numpy(image.pixels)
        return Prepared(pixels, image.height, image.width, image.parameters, image.keep)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        results: dict[int, Segmentation | MaskmillError] = {}
        for positions in self._split(batch):
            results.update(zip(positions, self._segment_same_shape([batch[n] for n in positions]), strict=True))
        return [results[position] for position in range(len(batch))]

    def warm_up(self) -> None:
        self._compile()
        for subtask in Subtask:
            segment_blank_image(self, SegmentParameters(threshold=0.0, subtask=subtask))

    def _split(self, batch: Sequence[Prepared]) -> list[list[int]]:
        """Return the positions of the images that share a forward pass."""
        if not self._is_batched:
            return [[position] for position in range(len(batch))]
        # If a model keeps the aspect ratio of its images, only images of one shape can share a forward pass.
        positions_by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for position, item in enumerate(batch):
            positions_by_shape[tuple(item.pixels.shape)].append(position)
        return list(positions_by_shape.values())

    @torch.inference_mode()
    def _segment_same_shape(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        """Segment images of one shape; halve a batch that fails until its parts pass or consist of one image."""
        try:
            logits = self._compute_logits(batch)
        except Exception as error:
            failure = self._explain(error, batch[0])
        else:
            return [self._postprocess(one, item) for one, item in zip(logits, batch, strict=True)]
        # After the except block the exception is freed, and with it the memory that its traceback held.
        if len(batch) == 1:
            return [failure]
        half = len(batch) // 2
        return self._segment_same_shape(batch[:half]) + self._segment_same_shape(batch[half:])

    def _explain(self, error: Exception, item: Prepared) -> MaskmillError:
        if self.resize is not None:
            return translate_error(error)
        rows, columns = item.pixels.shape[-2:]
        return explain_failure(error, (rows, columns), (item.height, item.width))

    def _compute_logits(self, batch: Sequence[Prepared]) -> list[Logits]:
        output = self._run_network(self._load(batch))
        classes, masks = output.class_queries_logits.float(), output.masks_queries_logits.float()
        return [Logits(*one) for one in zip(classes[: len(batch)], masks[: len(batch)], strict=True)]

    def _load(self, batch: Sequence[Prepared]) -> Tensor:
        """Return images of one shape on the device as the network's input, (B, 3, h, w) float32."""
        pixels = torch.stack([item.pixels for item in batch]).to(self.device, non_blocking=True)
        return normalize(pixels, self._normalization) if pixels.dtype is torch.uint8 else pixels

    def _run_network(self, pixels: Tensor) -> Any:
        """Run the forward pass, compiled if it is for this batch size or a larger one; then padding is added."""
        padded = self._pad_batch(pixels)
        network = self._compiled if tuple(padded.shape) in self._compiled_shapes else self._network
        with torch.autocast(
            torch.device(self.device).type,
            dtype=self._plan.dtype,
            enabled=self._plan.dtype is not torch.float32,
        ):
            return network(pixel_values=padded if network is self._compiled else pixels)

    def _pad_batch(self, pixels: Tensor) -> Tensor:
        """Add blank images up to the next compiled batch size."""
        missing = next((size for size in self._plan.compiled_sizes if size >= len(pixels)), 0) - len(pixels)
        return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing > 0 else pixels

    @torch.inference_mode()
    def _compile(self) -> None:
        blank = prepare_image(self, new_blank_image(), SegmentParameters())
        for size in self._plan.compiled_sizes:
            pixels = self._load([blank] * size)
            # First without compilation: what a first pass caches must not belong to the compiled graph.
            self._run_network(pixels)
            self._compiled_shapes.add(tuple(pixels.shape))
            for _ in range(COMPILED_WARM_UP_CALLS):
                self._run_network(pixels)

    def _postprocess(self, logits: Logits, item: Prepared) -> Segmentation | MaskmillError:
        subtask = item.parameters.subtask or Subtask.PANOPTIC
        try:
            size = item.height, item.width
            options = PostprocessOptions(size, item.parameters, self._budget, self._stuff or frozenset())
            result = postprocess(logits, subtask, options)
            segmentation = measure_segments(
                result.label_map.cpu().numpy(), result.labels, self._names, stuff=self._stuff
            )
            return replace(segmentation, kept=select_logits(logits, item.keep)) if item.keep else segmentation
        except Exception as error:
            return translate_error(error)


def get_resize(processor: Any) -> Resize | None:
    """Return how every image is resized; None if the size depends on the image, or if padding follows."""
    size = processor.size
    is_relative = size.shortest_edge or size.longest_edge or size.max_height or size.max_width
    if not processor.do_resize or processor.pad_size or is_relative or not (size.height and size.width):
        return None
    divisor = processor.size_divisor or 1
    width, height = -(-size.width // divisor) * divisor, -(-size.height // divisor) * divisor
    return Resize(width, height, int(processor.resample))
