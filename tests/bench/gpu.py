"""Everything that a GPU decides, in one script of ten minutes:  python -m tests.bench.gpu

Mask2Former with Swin-L and made-up weights (no download): the forward pass in each plan and batch size and how
close it comes to the chip's own matrix products, then whole photos beside transformers' pipeline.  Prints JSON lines.
It needs torch and transformers beside this repository's worker; --device cpu --tiny only shows that it runs.
"""

import argparse
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from shared.errors import MaskmillError
from tests.bench.engine import LENIENT, PHOTO_SIZE
from tests.bench.measuring import Measurement, device_name, progress
from tests.bench.reference import SWIN_LARGE, SWIN_TOY, Untrained, four_photos, untrained
from worker.engine.execution_plan import BAND_MEGABYTES, MEGABYTE, ExecutionPlan
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.formats.render import labels_png, masks_zip
from worker.segmenter import Prepared, Segmentation

GPU_BUDGET = BAND_MEGABYTES["cuda"] * MEGABYTE


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    seconds: of each series.  matrix: side of the square matrices whose product sets the pace.
    compiled_batches: in the order of their weight, for each costs a compilation.
    deadline: by time.monotonic(); what has not begun by then is left out, and said so.
    """

    device: str
    is_tiny: bool
    batches: tuple[int, ...]
    compiled_batches: tuple[int, ...]
    photos: int
    seconds: float
    matrix: int
    threads: int
    deadline: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What every way is held against.

    pixels: one prepared image.  flops: of the reference's forward pass on it.  paces: TFLOP/s of matrix products.
    """

    exact: Mask2FormerSegmenter
    pixels: torch.Tensor
    flops: float
    paces: dict[torch.dtype, float]


@dataclass(frozen=True, slots=True)
class Way:
    """One plan of ours."""

    name: str
    plan: ExecutionPlan


def main(arguments: Sequence[str]) -> int:
    """Print a line as soon as it is measured, so that what was measured before a fault is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="only see whether it runs; the figures mean nothing")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin nothing new after this time")
    parser.add_argument("--threads", type=int, default=14, help="that prepare and render photos")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--compiled-batches", type=int, nargs="*", default=[16, 1, 8, 32, 4])
    chosen = parser.parse_args(arguments)
    plan = Plan(
        device=chosen.device,
        is_tiny=chosen.tiny,
        batches=(1, 2) if chosen.tiny else tuple(chosen.batches),
        compiled_batches=() if chosen.tiny else tuple(chosen.compiled_batches),
        photos=4 if chosen.tiny else 512,
        seconds=0.05 if chosen.tiny else 4.0,
        matrix=256 if chosen.tiny else 8192,
        threads=2 if chosen.tiny else chosen.threads,
        deadline=time.monotonic() + 60 * chosen.minutes,
    )
    for measurement in measurements(plan):
        print(measurement.to_json(), flush=True)
    return 0


def measurements(plan: Plan) -> Iterator[Measurement]:
    """Measure what needs no compiling first."""
    progress("gpu: building the model")
    made = untrained(SWIN_TOY if plan.is_tiny else SWIN_LARGE)
    paces = {dtype: matmul_rate(plan, dtype) for dtype in (torch.float32, torch.bfloat16)}
    yield said(plan, "gpu.matmul", {"side": plan.matrix}, {named(dtype): round(t, 2) for dtype, t in paces.items()})
    pixels = made.processor(images=[four_photos()[0]], return_tensors="pt")["pixel_values"]
    exact = Way("exact, float32", ExecutionPlan(band_bytes=GPU_BUDGET))
    fast = Way("fast, float32", ExecutionPlan(is_fast=True, band_bytes=GPU_BUDGET))
    short = Way("fast, bfloat16", ExecutionPlan(is_fast=True, dtype=torch.bfloat16, band_bytes=GPU_BUDGET))
    reference = made.segmenter(plan.device, exact.plan)
    yardstick = Yardstick(reference, pixels, counted_flops(made, pixels), paces)
    for way in (exact, fast, short):
        segmenter = made.segmenter(plan.device, way.plan) if way.plan.is_fast else reference
        yield from _one_way(plan, way, segmenter, yardstick)
    yield from _pipeline(plan, made)
    for batch in plan.compiled_batches:
        if plan.is_over:
            yield said(plan, "gpu.left_out", {"compiled batch": batch}, {"minutes were over": True})
            continue
        way = Way("fast, bfloat16, compiled", ExecutionPlan(True, torch.bfloat16, (batch,), GPU_BUDGET))
        yield from _compiled(plan, way, made, yardstick, batch)


def _one_way(
    plan: Plan,
    way: Way,
    segmenter: Mask2FormerSegmenter,
    yardstick: Yardstick,
) -> Iterator[Measurement]:
    for batch in plan.batches:
        if plan.is_over:
            yield said(plan, "gpu.left_out", {"way": way.name, "batch": batch}, {"minutes were over": True})
            continue
        yield _forward(plan, way, segmenter, yardstick, batch)
        yield _whole(plan, way, segmenter, batch)
    if way.plan.is_fast:
        yield _agreement(plan, way, segmenter, yardstick.exact)


def _compiled(
    plan: Plan,
    way: Way,
    made: Untrained,
    yardstick: Yardstick,
    batch: int,
) -> Iterator[Measurement]:
    progress(f"gpu: compiling for batches of {batch}")
    segmenter = made.segmenter(plan.device, way.plan)
    start = time.perf_counter()
    segmenter.warm_up()
    seconds = time.perf_counter() - start
    yield said(plan, "gpu.compile", {"way": way.name, "batch": batch}, {"seconds": round(seconds, 1)})
    yield _forward(plan, way, segmenter, yardstick, batch)
    yield _whole(plan, way, segmenter, batch)
    if batch == plan.compiled_batches[0]:
        yield _agreement(plan, way, segmenter, yardstick.exact)


def _forward(
    plan: Plan,
    way: Way,
    segmenter: Mask2FormerSegmenter,
    yardstick: Yardstick,
    batch: int,
) -> Measurement:
    """Time the forward pass alone, its input on the device."""
    progress(f"gpu: forward, {way.name}, batches of {batch}")
    images = yardstick.pixels.expand(batch, -1, -1, -1).contiguous().to(plan.device)
    forget_peak(plan.device)
    with torch.inference_mode():
        seconds = median_seconds(plan, lambda: segmenter._output(images))
    teraflops = yardstick.flops * batch / seconds / 1e12
    figures = {
        "median_ms": round(1e3 * seconds, 2),
        "images_per_second": round(batch / seconds, 1),
        # Of the reference's plan: what the fast pass leaves out still counts as done.
        "teraflops": round(teraflops, 2),
        "share_of_matmul_rate": round(teraflops / yardstick.paces[way.plan.dtype], 3),
        "peak_gb": peak_gb(plan.device),
    }
    return said(plan, "gpu.forward", {"way": way.name, "batch": batch}, figures)


def _whole(plan: Plan, way: Way, segmenter: Mask2FormerSegmenter, batch: int) -> Measurement:
    """Time photos from pixels in memory to rendered files, prepared and rendered in threads beside the device."""
    progress(f"gpu: whole photos, {way.name}, batches of {batch}")
    photos = photos_for(plan, batch)
    through(segmenter, photos[: 2 * batch], batch, plan.threads)
    forget_peak(plan.device)
    run = through(segmenter, photos, batch, plan.threads)
    figures = {
        "images_per_second": round(len(photos) / run.seconds, 2),
        "device_thread_busy": round(run.device_seconds / run.seconds, 3),
        "gpu_busy": busy_share(plan, segmenter, photos[: 4 * batch], batch),
        "segments": run.segments,
        "peak_gb": peak_gb(plan.device),
    }
    return said(plan, "gpu.whole", {"way": way.name, "batch": batch, "photos": len(photos), **_photo()}, figures)


def _pipeline(plan: Plan, made: Untrained) -> Iterator[Measurement]:
    """Time transformers' own pipeline, which does everything in one thread."""
    pipeline = made.pipeline(plan.device)
    for batch in plan.batches:
        if plan.is_over:
            yield said(plan, "gpu.left_out", {"way": "pipeline", "batch": batch}, {"minutes were over": True})
            continue
        progress(f"gpu: pipeline, batches of {batch}")
        # It is slow enough that few photos tell as much.
        photos = photos_for(plan, batch)[: max(batch, min(64, len(photos_for(plan, batch))))]
        settings = {"threshold": LENIENT.threshold, "overlap_mask_area_threshold": LENIENT.overlap_mask_area_threshold}
        list(pipeline(photos[:batch], batch_size=batch, **settings))
        start = time.perf_counter()
        segments = sum(len(one) for one in pipeline(photos, batch_size=batch, **settings))
        rate = len(photos) / (time.perf_counter() - start)
        figures = {"images_per_second": round(rate, 2), "segments": segments}
        yield said(
            plan, "gpu.whole", {"way": "pipeline, float32", "batch": batch, "photos": len(photos), **_photo()}, figures
        )


def _agreement(plan: Plan, way: Way, ours: Mask2FormerSegmenter, exact: Mask2FormerSegmenter) -> Measurement:
    """Compare labels pixel by pixel.  Untrained masks have far more undecided pixels than trained ones."""
    shares = []
    for photo in four_photos():
        one, other = (segmented(way, [way.prepare(photo, LENIENT)])[0] for way in (ours, exact))
        shares.append(float((shown(one) == shown(other)).mean()))
    figures = {"equal_pixels": round(statistics.mean(shares), 5), "worst_photo": round(min(shares), 5)}
    return said(plan, "gpu.agreement", {"way": way.name, "beside": "exact, float32"}, figures)


@dataclass(frozen=True, slots=True)
class Run:
    """device_seconds: that the device's thread spent in segment(), waiting for the device included."""

    seconds: float
    device_seconds: float
    segments: int


def through(segmenter: Mask2FormerSegmenter, photos: Sequence[Image.Image], batch: int, threads: int) -> Run:
    """Bring photos through as a worker does: threads prepare and render, this one alone talks to the device."""
    device_seconds, segments = 0.0, 0
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        rendered: deque[Any] = deque()
        for prepared in batched(ahead(pool, segmenter, photos, 4 * batch + threads), batch):
            began = time.perf_counter()
            outcomes = segmented(segmenter, prepared)
            device_seconds += time.perf_counter() - began
            segments += sum(len(outcome.segments) for outcome in outcomes)
            rendered.extend(pool.submit(render, outcome) for outcome in outcomes)
        for future in rendered:
            future.result()
    return Run(time.perf_counter() - start, device_seconds, segments)


def ahead(
    pool: ThreadPoolExecutor, segmenter: Mask2FormerSegmenter, photos: Sequence[Image.Image], most: int
) -> Iterator[Prepared]:
    """Prepare in threads, at most so many photos ahead, and yield in order."""
    waiting: deque[Any] = deque()
    for photo in photos:
        waiting.append(pool.submit(segmenter.prepare, photo, LENIENT))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def batched(items: Iterator[Prepared], size: int) -> Iterator[list[Prepared]]:
    while batch := list(islice(items, size)):
        yield batch


def render(result: Segmentation) -> int:
    """Make the files that a job has by default, but for the overlay; return their size."""
    return len(labels_png(result.label_map)) + len(masks_zip(result)[0])


def segmented(segmenter: Mask2FormerSegmenter, batch: Sequence[Prepared]) -> list[Segmentation]:
    done = []
    for outcome in segmenter.segment(batch):
        if isinstance(outcome, MaskmillError):
            raise outcome
        done.append(outcome)
    return done


def shown(result: Segmentation) -> np.ndarray:
    """Return the label of each pixel, (H, W); -1 is none."""
    return np.array([-1, *(segment.label_id for segment in result.segments)])[result.label_map]


def busy_share(plan: Plan, segmenter: Mask2FormerSegmenter, photos: Sequence[Image.Image], batch: int) -> float | None:
    """Return the share of the time in which the GPU ran kernels; None without a GPU.  Profiling slows the host."""
    if not plan.device.startswith("cuda"):
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        run = through(segmenter, photos, batch, plan.threads)
    kernels = sum(event.self_device_time_total for event in profiled.key_averages())
    return round(kernels / 1e6 / run.seconds, 3)


def matmul_rate(plan: Plan, dtype: torch.dtype) -> float:
    """Return how many TFLOP/s the device does on large matrices, the pace that nothing here can beat."""
    progress(f"gpu: matrix products, {named(dtype)}")
    a, b = (torch.randn(plan.matrix, plan.matrix, device=plan.device, dtype=dtype) for _ in range(2))
    return 2 * plan.matrix**3 / median_seconds(plan, lambda: a @ b) / 1e12


def counted_flops(made: Untrained, pixels: torch.Tensor) -> float:
    """Return the floating-point operations of the reference's forward pass on one image."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        made.network(pixel_values=pixels)
    return float(counter.get_total_flops())


def median_seconds(plan: Plan, call: Callable[[], object]) -> float:
    """Time single calls, the device waited for each time; three more go before, unmeasured."""
    for _ in range(3):
        call()
    wait_for(plan.device)
    taken = []
    until = time.perf_counter() + plan.seconds
    while len(taken) < 3 or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        wait_for(plan.device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def wait_for(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def forget_peak(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_gb(device: str) -> float | None:
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.startswith("cuda") else None


def photos_for(plan: Plan, batch: int) -> list[Image.Image]:
    """Return photos of one usual size; fewer for small batches, which are slower."""
    count = min(plan.photos, max(64, 16 * batch)) if not plan.is_tiny else plan.photos
    return list(islice(cycle(photo.resize(PHOTO_SIZE) for photo in four_photos()), count))


def _photo() -> dict[str, str]:
    return {"image": "x".join(map(str, PHOTO_SIZE))}


def said(plan: Plan, bench: str, settings: dict[str, Any], figures: dict[str, Any]) -> Measurement:
    return Measurement(bench, {"model": "swin-toy" if plan.is_tiny else "swin-large", **settings}, figures, _name(plan))


def _name(plan: Plan) -> str:
    return device_name(plan.device)


def named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
