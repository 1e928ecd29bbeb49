"""From logits to a label map: our post-processing beside transformers' own, a fresh process for each measurement.

The logits are what Mask2Former gives for 133 classes: 200 queries, 20 of them confident, masks of blobs.
"""

import hashlib
import statistics
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch.nn.functional import interpolate
from transformers import Mask2FormerImageProcessorPil

from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench.measuring import Effort, Measurement, in_turn, progress
from worker.engine import postprocessing as postprocess
from worker.engine.loader import quieten
from worker.engine.postprocessing import Logits, painting

P = ParamSpec("P")
T = TypeVar("T")

QUERIES, CONFIDENT, CLASSES = 200, 20, 133
SIDE = 96
LEAST_SIDE = 64
PARAMETERS = SegmentParameters()
# (label ids and scores, label map) as both sides can be brought to.
Canonical = tuple[list[tuple[int, float | None]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Task:
    """size: (height, width)."""

    subtask: Subtask
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Outcome:
    """extra_mb: what memory grew by at its highest.  sha256: of the result."""

    extra_mb: float
    sha256: str


def run(effort: Effort) -> Iterator[Measurement]:
    """Measure each subtask at each size."""
    for width, height in effort.sizes:
        for subtask in Subtask:
            progress(f"postprocess: {subtask} {width}x{height}")
            yield _beside(Task(subtask, (height, width)), effort)


def _beside(task: Task, effort: Effort) -> Measurement:
    ours, reference = in_fresh_process(once, "ours", task), in_fresh_process(once, "reference", task)
    median_ms = in_fresh_process(repeatedly, task, effort)
    settings = {"subtask": str(task.subtask), "image": f"{task.size[1]}x{task.size[0]}"}
    figures = {
        "median_ms": round(median_ms["ours"], 1),
        "transformers_ms": round(median_ms["reference"], 1),
        "ratio": round(median_ms["reference"] / median_ms["ours"], 1),
        "extra_mb": round(ours.extra_mb),
        "transformers_extra_mb": round(reference.extra_mb),
        "equal": ours.sha256 == reference.sha256,
    }
    return Measurement("postprocess", settings, figures)


def in_fresh_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call where nobody has allocated anything before."""
    # Forked from a process that has imported this module and run nothing: no second import, and no pool of threads.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        return processes.submit(function, *args, **kwargs).result()


def once(side: str, task: Task) -> Outcome:
    """Measure the memory of one call in this process."""
    logits = _warmed_up(side)
    forget_peak()
    before = memory_mb("VmRSS")
    answer = SIDES[side](logits, task.size, task.subtask)
    extra_mb = memory_mb("VmHWM") - before
    return Outcome(max(0.0, extra_mb), fingerprint(CANONICAL[side](answer, task.subtask)))


def repeatedly(task: Task, effort: Effort) -> dict[str, float]:
    """Return the median milliseconds of both sides, called in turn."""
    logits = _warmed_up(*SIDES)
    calls = {side: partial(call, logits, task.size, task.subtask) for side, call in SIDES.items()}
    taken = in_turn(calls, replace(effort, seconds=effort.seconds / 2, least=min(2, effort.least)))
    return {side: statistics.median(rounds) for side, rounds in taken.items()}


def _warmed_up(*sides: str) -> Logits:
    """Call sides for images small enough to leave no memory behind that a measurement could use."""
    quieten()
    logits = blobs()
    few = Logits(logits.classes[:CONFIDENT], logits.masks[:CONFIDENT])
    for side, subtask in product(sides, Subtask):
        SIDES[side](few, (LEAST_SIDE, LEAST_SIDE), subtask)
    return logits


def blobs(*, seed: int = 0) -> Logits:
    """Discs of any place and size with uneven edges: noise would show nothing, and skip the work that costs."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    centre_y, centre_x, size = torch.rand(3, QUERIES, 1, 1, generator=draw)
    distance = ((y - centre_y) ** 2 + (x - centre_x) ** 2).sqrt()  # (Q, 96, 96)
    rough = interpolate(torch.randn(1, QUERIES, 12, 12, generator=draw), size=(SIDE, SIDE), mode="bilinear")[0]
    masks = (12 * (1 - distance / (0.05 + 0.2 * size))).clamp(min=-12) + rough
    classes = torch.randn(QUERIES, CLASSES + 1, generator=draw)  # (Q, C + 1)
    classes[:, CLASSES] += 12
    sure = torch.arange(0, QUERIES, QUERIES // CONFIDENT)
    classes[sure, CLASSES] -= 24
    classes[sure, (sure * 7) % CLASSES] += 14
    return Logits(classes, masks)


def ours(logits: Logits, size: tuple[int, int], subtask: Subtask) -> Any:
    """Return (label map (H, W), what was found)."""
    with torch.inference_mode():
        painted = painting(logits, subtask, postprocess.Task(size, PARAMETERS))
    return painted.label_map.numpy(), painted.found


def transformers_own(logits: Logits, size: tuple[int, int], subtask: Subtask) -> Any:
    """Return what the image processor answers for one image."""
    output = SimpleNamespace(class_queries_logits=logits.classes[None], masks_queries_logits=logits.masks[None])
    processor = Mask2FormerImageProcessorPil()
    process = getattr(processor, f"post_process_{subtask}_segmentation")
    thresholds = {
        name: getattr(PARAMETERS, name) for name in ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    }
    with torch.inference_mode():
        return process(output, target_sizes=[size], **({} if subtask is Subtask.SEMANTIC else thresholds))[0]


def canonical_ours(answer: Any, _subtask: Subtask) -> Canonical:
    label_map, found = answer
    return [(one.label_id, one.score) for one in found], label_map.astype(np.uint16)


def canonical_reference(answer: Any, subtask: Subtask) -> Canonical:
    """Number the segments from 1 in their order."""
    if subtask is Subtask.SEMANTIC:
        numbers, label_map = np.unique(answer.numpy(), return_inverse=True)
        return [(int(number), None) for number in numbers], (label_map.reshape(answer.shape) + 1).astype(np.uint16)
    plane = answer["segmentation"].numpy()
    label_map = np.zeros(plane.shape, np.uint16)
    for number, segment in enumerate(answer["segments_info"], start=1):
        label_map[plane == segment["id"]] = number
    return [(segment["label_id"], segment["score"]) for segment in answer["segments_info"]], label_map


SIDES: dict[str, Callable[[Logits, tuple[int, int], Subtask], Any]] = {"ours": ours, "reference": transformers_own}
CANONICAL: dict[str, Callable[[Any, Subtask], Canonical]] = {
    "ours": canonical_ours,
    "reference": canonical_reference,
}


def fingerprint(result: Canonical) -> str:
    found, label_map = result
    return hashlib.sha256(repr(found).encode() + label_map.tobytes()).hexdigest()


def forget_peak() -> None:
    """Let the kernel's high-water mark of this process's memory begin anew, where it can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_mb(name: str) -> float:
    """Return VmRSS, what the process has now, or VmHWM, the most it had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"this system does not tell {name}")
