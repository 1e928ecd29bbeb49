"""Post-processing, from logits to a label map, compared with that of transformers; each measurement in a new process.

The logits have the shapes of Mask2Former's for 133 classes: 200 queries, 20 of them confident, with blobs as masks.
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
from tests.bench.measurement import Measurement, Workload, print_progress, time_interleaved
from worker.engine.loader import silence_transformers
from worker.engine.postprocessing.postprocess import postprocess
from worker.engine.postprocessing.types import Logits, PostprocessOptions

P = ParamSpec("P")
T = TypeVar("T")

QUERIES, CONFIDENT, CLASSES = 200, 20, 133
SIDE = 96
WARM_UP_SIDE = 64
PARAMETERS = SegmentParameters()
# Label id and score of each segment, and the label map, (H, W) uint16: a form common to both sides.
Canonical = tuple[list[tuple[int, float | None]], np.ndarray]


@dataclass(frozen=True, slots=True)
class Case:
    """One subtask at one size, (height, width) in pixels."""

    subtask: Subtask
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class CallProfile:
    """extra_mb: peak growth of the process's resident memory.  sha256: digest of the result."""

    extra_mb: float
    sha256: str


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure each subtask at each size."""
    for width, height in workload.postprocess_sizes:
        for subtask in Subtask:
            print_progress(f"postprocess: {subtask} {width}x{height}")
            yield _compare_with_transformers(Case(subtask, (height, width)), workload)


def _compare_with_transformers(case: Case, workload: Workload) -> Measurement:
    ours, reference = (run_in_new_process(profile_call, side, case) for side in ("ours", "reference"))
    median_ms = run_in_new_process(median_times_ms, case, workload)
    settings = {"subtask": str(case.subtask), "image": f"{case.size[1]}x{case.size[0]}"}
    figures = {
        "median_ms": round(median_ms["ours"], 1),
        "transformers_ms": round(median_ms["reference"], 1),
        "ratio": round(median_ms["reference"] / median_ms["ours"], 1),
        "extra_mb": round(ours.extra_mb),
        "transformers_extra_mb": round(reference.extra_mb),
        "equal": ours.sha256 == reference.sha256,
    }
    return Measurement("postprocess", settings, figures)


def run_in_new_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call in a process without earlier allocations."""
    # The fork server has imported this module and run nothing, so a fork needs no second import and has no thread pool.
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(1, mp_context=context) as processes:
        return processes.submit(function, *args, **kwargs).result()


def profile_call(side: str, case: Case) -> CallProfile:
    """Measure the memory of one call in this process."""
    logits = blob_logits()
    warm_up(logits, side)
    reset_peak_memory()
    before = memory_mb("VmRSS")
    output = SIDES[side](logits, case.size, case.subtask)
    extra_mb = memory_mb("VmHWM") - before
    return CallProfile(max(0.0, extra_mb), digest(CANONICALIZERS[side](output, case.subtask)))


def median_times_ms(case: Case, workload: Workload) -> dict[str, float]:
    """Return the median milliseconds of each side, with interleaved calls."""
    logits = blob_logits()
    warm_up(logits, *SIDES)
    calls = {side: partial(call, logits, case.size, case.subtask) for side, call in SIDES.items()}
    half = replace(workload, seconds=workload.seconds / 2, min_calls=min(2, workload.min_calls))
    return {side: statistics.median(rounds) for side, rounds in time_interleaved(calls, half).items()}


def warm_up(logits: Logits, *sides: str) -> None:
    """Call each side for a small image, which leaves too little free memory behind to affect a measurement."""
    silence_transformers()
    few = Logits(logits.classes[:CONFIDENT], logits.masks[:CONFIDENT])
    for side, subtask in product(sides, Subtask):
        SIDES[side](few, (WARM_UP_SIDE, WARM_UP_SIDE), subtask)


def blob_logits(*, seed: int = 0) -> Logits:
    """Return logits whose masks are discs of random position and size with uneven edges.

    With noise instead, no segment would remain, and the expensive part of the post-processing would not run.
    """
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE), torch.linspace(0, 1, SIDE), indexing="ij")
    centre_y, centre_x, size = torch.rand(3, QUERIES, 1, 1, generator=generator)
    distance = ((y - centre_y) ** 2 + (x - centre_x) ** 2).sqrt()  # (Q, 96, 96)
    noise = interpolate(torch.randn(1, QUERIES, 12, 12, generator=generator), size=(SIDE, SIDE), mode="bilinear")[0]
    masks = (12 * (1 - distance / (0.05 + 0.2 * size))).clamp(min=-12) + noise
    classes = torch.randn(QUERIES, CLASSES + 1, generator=generator)  # (Q, C + 1)
    classes[:, CLASSES] += 12
    confident = torch.arange(0, QUERIES, QUERIES // CONFIDENT)
    classes[confident, CLASSES] -= 24
    classes[confident, (confident * 7) % CLASSES] += 14
    return Logits(classes, masks)


def run_ours(logits: Logits, size: tuple[int, int], subtask: Subtask) -> Any:
    """Return the label map, (H, W), and the segments found."""
    with torch.inference_mode():
        result = postprocess(logits, subtask, PostprocessOptions(size, PARAMETERS))
    return result.label_map.numpy(), result.labels


def run_transformers(logits: Logits, size: tuple[int, int], subtask: Subtask) -> Any:
    """Return the result of the image processor for one image."""
    output = SimpleNamespace(class_queries_logits=logits.classes[None], masks_queries_logits=logits.masks[None])
    processor = Mask2FormerImageProcessorPil()
    process = getattr(processor, f"post_process_{subtask}_segmentation")
    thresholds = {
        name: getattr(PARAMETERS, name) for name in ("threshold", "mask_threshold", "overlap_mask_area_threshold")
    }
    with torch.inference_mode():
        return process(output, target_sizes=[size], **({} if subtask is Subtask.SEMANTIC else thresholds))[0]


def canonicalize_ours(output: Any, _subtask: Subtask) -> Canonical:
    label_map, found = output
    return [(one.label_id, one.score) for one in found], label_map.astype(np.uint16)


def canonicalize_reference(output: Any, subtask: Subtask) -> Canonical:
    """Number the segments from 1 in their order."""
    if subtask is Subtask.SEMANTIC:
        label_ids, label_map = np.unique(output.numpy(), return_inverse=True)
        label_map = label_map.reshape(output.shape) + 1
        return [(int(label_id), None) for label_id in label_ids], label_map.astype(np.uint16)
    segment_ids = output["segmentation"].numpy()  # (H, W)
    label_map = np.zeros(segment_ids.shape, np.uint16)
    for number, segment in enumerate(output["segments_info"], start=1):
        label_map[segment_ids == segment["id"]] = number
    return [(segment["label_id"], segment["score"]) for segment in output["segments_info"]], label_map


SIDES: dict[str, Callable[[Logits, tuple[int, int], Subtask], Any]] = {"ours": run_ours, "reference": run_transformers}
CANONICALIZERS: dict[str, Callable[[Any, Subtask], Canonical]] = {
    "ours": canonicalize_ours,
    "reference": canonicalize_reference,
}


def digest(result: Canonical) -> str:
    """Return the SHA-256 of a result, in hex."""
    segments, label_map = result
    return hashlib.sha256(repr(segments).encode() + label_map.tobytes()).hexdigest()


def reset_peak_memory() -> None:
    """Reset the kernel's peak of this process's resident memory (VmHWM), where permitted; see proc(5), clear_refs."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def memory_mb(name: str) -> float:
    """Return the resident memory of this process in MB: VmRSS is the present value, VmHWM the peak.

    Raises:
        RuntimeError: the system does not report it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"this system does not report {name}")
