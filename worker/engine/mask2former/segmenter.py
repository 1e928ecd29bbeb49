"""Mask2Former behind the port of worker/segmenter.py: batches on one device, post-processing where the logits are."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import torch
from PIL.Image import Image, Resampling
from PIL.Image import new as new_image
from torch import Tensor
from transformers import Mask2FormerForUniversalSegmentation, Mask2FormerImageProcessorPil, PretrainedConfig

from shared.errors import BadParameter, EngineFailed, MaskmillError, ModelUnusable, OutOfMemory
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.coco_classes import stuff_among
from worker.engine.execution_plan import ExecutionPlan
from worker.engine.mask2former.fast_forward import cast_weights, optimize_forward
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.segments import measure_segments
from worker.engine.postprocessing.types import Budget, Logits, PostprocessOptions
from worker.segmenter import Prepared, Segmentation, Segmenter

WARM_UP_SIZE: Final = (640, 480)
EXACT: Final = ExecutionPlan()


class Mask2FormerSegmenter:
    """Fills `Segmenter`.  Without any other plan the results are the reference's own, bit for bit on a CPU."""

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
        self.revision = plan.revision_of(revision)
        self.device = device
        self._arithmetic = plan
        self._network = forward_pass(network.eval().to(device), plan)  # type: ignore[no-untyped-call]
        self._compiled = compiled(self._network, plan, device)
        # What was warmed up: nothing is ever compiled in service.
        self._compiled_shapes: set[tuple[int, ...]] = set()
        self._processor = processor
        self._input_size = input_size(processor)
        self._names = class_names(network.config)
        self._stuff = stuff_classes(network.config)
        self._budget = Budget(plan.band_bytes)

    def prepare(self, image: Image, parameters: SegmentParameters) -> Prepared:
        if parameters.fuse_stuff and self._stuff is None:
            raise BadParameter(f"{self.model} does not say which of its classes are stuff, so none can be fused.")
        if self._input_size is None:
            pixels = self._processor(images=[image], return_tensors="pt")["pixel_values"][0]
        else:
            # The processor would turn the photo into an array and back for the same call: a quarter of the speed, and
            # nine bytes a pixel more.
            small = image.resize(self._input_size, Resampling(int(self._processor.resample)))
            pixels = self._processor(images=[small], do_resize=False, return_tensors="pt")["pixel_values"][0]
        return Prepared(pixels, image.height, image.width, parameters)

    def segment(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        # Where a model keeps the aspect of its images, only those of one shape can share a pass.
        alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for place, item in enumerate(batch):
            alike[tuple(item.pixels.shape)].append(place)
        done: dict[int, Segmentation | MaskmillError] = {}
        for places in alike.values():
            done.update(zip(places, self._segment_alike([batch[place] for place in places]), strict=True))
        return [done[place] for place in range(len(batch))]

    def warm_up(self) -> None:
        self._compile()
        for subtask in Subtask:
            try_out(self, SegmentParameters(threshold=0.0, subtask=subtask))

    @torch.inference_mode()
    def _segment_alike(self, batch: Sequence[Prepared]) -> list[Segmentation | MaskmillError]:
        """Halve a batch that fails until it passes, or until the image is alone that cannot."""
        try:
            logits = self._forward(batch)
        except Exception as error:
            failure = failure_of(error)
        else:
            return [self._finish(one, item) for one, item in zip(logits, batch, strict=True)]
        # Out here the exception is gone, and with it the memory that its traceback held.
        if len(batch) == 1:
            return [failure]
        half = len(batch) // 2
        return self._segment_alike(batch[:half]) + self._segment_alike(batch[half:])

    def _forward(self, batch: Sequence[Prepared]) -> list[Logits]:
        pixels: Tensor = torch.stack([item.pixels for item in batch]).to(self.device, non_blocking=True)
        output = self._output(pixels)
        classes, masks = output.class_queries_logits.float(), output.masks_queries_logits.float()
        return [Logits(*one) for one in zip(classes[: len(batch)], masks[: len(batch)], strict=True)]

    def _output(self, pixels: Tensor) -> Any:
        """Run what was compiled for this many images or a few more, if there is such."""
        padded = self._padded(pixels)
        network = self._compiled if tuple(padded.shape) in self._compiled_shapes else self._network
        with torch.autocast(
            torch.device(self.device).type,
            dtype=self._arithmetic.dtype,
            enabled=self._arithmetic.dtype is not torch.float32,
        ):
            return network(pixel_values=padded if network is self._compiled else pixels)

    def _padded(self, pixels: Tensor) -> Tensor:
        missing = next((size for size in self._arithmetic.compiled_sizes if size >= len(pixels)), 0) - len(pixels)
        return torch.cat([pixels, pixels.new_zeros(missing, *pixels.shape[1:])]) if missing > 0 else pixels

    @torch.inference_mode()
    def _compile(self) -> None:
        blank = self.prepare(new_image("RGB", WARM_UP_SIZE), SegmentParameters()).pixels
        for size in self._arithmetic.compiled_sizes:
            pixels = blank.expand(size, -1, -1, -1).to(self.device)
            # Once as it is: what a first pass works out and keeps must not belong to the compiled graph.
            self._output(pixels)
            self._compiled_shapes.add(tuple(pixels.shape))
            # The first run compiles, the second records, the third replays.
            for _ in range(3):
                self._output(pixels)

    def _finish(self, logits: Logits, item: Prepared) -> Segmentation | MaskmillError:
        subtask = item.parameters.subtask or Subtask.PANOPTIC
        try:
            size = item.height, item.width
            options = PostprocessOptions(size, item.parameters, self._budget, self._stuff or frozenset())
            result = postprocess(logits, subtask, options)
            return measure_segments(result.label_map.cpu().numpy(), result.labels, self._names)
        except Exception as error:
            return failure_of(error)


def try_out(segmenter: Segmenter, parameters: SegmentParameters) -> None:
    """Segment a blank image.

    Raises:
        ModelUnusable: it cannot even do that.
    """
    [result] = segmenter.segment([segmenter.prepare(new_image("RGB", WARM_UP_SIZE), parameters)])
    if isinstance(result, MaskmillError):
        raise ModelUnusable(f"{segmenter.model} fails on a blank image on {segmenter.device}: {result}") from result


def forward_pass(network: Any, plan: ExecutionPlan) -> Callable[..., Any]:
    """Return what maps pixel_values to logits in this plan; its weights are the network's own."""
    if not plan.is_fast:
        return cast(Callable[..., Any], network)
    quick = optimize_forward(network)
    if plan.dtype is not torch.float32:
        cast_weights(quick, plan.dtype)
    return quick


def compiled(forward: Callable[..., Any], plan: ExecutionPlan, device: str) -> Callable[..., Any]:
    """Return the pass with a graph for each of its batch sizes; nothing is compiled before it is called."""
    if not plan.compiled_sizes:
        return forward
    # Each size is a recompilation of the same code, which torch otherwise gives up after eight.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, 4 * len(plan.compiled_sizes))
    # On a GPU the launches of a small batch's kernels take longer than the kernels: CUDA graphs launch all at once.
    mode = "reduce-overhead" if torch.device(device).type == "cuda" else None
    return torch.compile(forward, dynamic=False, mode=mode)


def input_size(processor: Mask2FormerImageProcessorPil) -> tuple[int, int] | None:
    """Return the (width, height) that every image is resized to; None where that depends on the image."""
    size: Any = processor.size
    depends = size.shortest_edge or size.longest_edge or size.max_height or size.max_width
    if not processor.do_resize or depends or not (size.height and size.width):
        return None
    divisor = processor.size_divisor or 1
    return -(-size.width // divisor) * divisor, -(-size.height // divisor) * divisor


def class_names(config: PretrainedConfig) -> dict[int, str]:
    """Return the name of each class by its number."""
    return {int(number): name for number, name in (config.id2label or {}).items()}


def stuff_classes(config: PretrainedConfig) -> frozenset[int] | None:
    """Return the numbers of the classes that have no separate things, as grass has none; None if nothing says so.

    A configuration may name them as `stuff_label_ids`; otherwise the classes have to be COCO's.
    """
    numbers = getattr(config, "stuff_label_ids", None)
    return stuff_among(class_names(config)) if numbers is None else frozenset(numbers)


def failure_of(error: Exception) -> MaskmillError:
    """Say in our words what the device or the model could not do; the original hangs on as the cause."""
    failure: MaskmillError
    if is_out_of_memory(error):
        failure = OutOfMemory("The image does not fit into the device's memory.")
    else:
        failure = EngineFailed(f"The model failed on this image: {type(error).__name__}.")
    # Without its traceback, which would keep the tensors of the failed pass.
    failure.__cause__ = error.with_traceback(None)
    return failure


def is_out_of_memory(error: Exception) -> bool:
    # A CPU has no class of its own for it.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)
