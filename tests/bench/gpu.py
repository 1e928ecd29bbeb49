"""All measurements that need a GPU, in one script of ten minutes:  python -m tests.bench.gpu

Uses Mask2Former with Swin-L and random weights, so it downloads nothing.  Measures the forward pass of each execution
plan and batch size, relative to the device's matrix products, and the path from decoded images to rendered files, also
that of transformers' pipeline.  Prints JSON lines.  Needs torch, transformers and the worker.
--device cpu --tiny is a smoke test.
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

import torch
from PIL import Image
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.engine import IMAGE_SIZE, LENIENT
from tests.bench.measurement import Measurement, device_name, print_progress
from tests.bench.reference import SWIN_LARGE, SWIN_TOY, RandomModel, build_random_model, sample_images
from tests.bench.segmentation import equal_label_share, segment_batch
from worker.engine.execution_plan import BAND_MEGABYTES, MEGABYTE, ExecutionPlan
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.formats import labels, masks
from worker.formats.rendered import RenderSource
from worker.segmenter import Prepared, Segmentation, prepare_image

GPU_BUDGET = BAND_MEGABYTES["cuda"] * MEGABYTE
WARM_UP_CALLS = 3
MIN_CALLS = 3
# The pipeline is slow, and this many images give as precise a rate.
MAX_PIPELINE_IMAGES = 64


@dataclass(frozen=True, slots=True)
class GpuWorkload:
    """What to measure on which device.

    compiled_batches: batch sizes to compile for, the most important first, because each needs a compilation.
    images: segmented at most for one figure.
    seconds: duration of each series of calls.
    matrix: rows and columns of the square matrices of gpu.matmul.
    threads: that prepare and render images.
    deadline: on the clock of time.monotonic(); a measurement not begun by then is reported as gpu.left_out.
    """

    device: str
    is_tiny: bool
    batches: tuple[int, ...]
    compiled_batches: tuple[int, ...]
    images: int
    seconds: float
    matrix: int
    threads: int
    deadline: float

    @property
    def is_over(self) -> bool:
        return time.monotonic() > self.deadline


@dataclass(frozen=True, slots=True)
class Variant:
    """An execution plan under test, and its name in the output."""

    name: str
    plan: ExecutionPlan


@dataclass(frozen=True, slots=True)
class Baseline:
    """What each variant is compared with.

    exact: the segmenter with the reference's forward pass in float32.
    pixels: one prepared image, (1, 3, h, w) float32.
    flops: floating-point operations of the reference's forward pass on `pixels`.
    matmul_rates: TFLOP/s of large matrix products, by dtype.
    """

    exact: Mask2FormerSegmenter
    pixels: torch.Tensor
    flops: float
    matmul_rates: dict[torch.dtype, float]


def main(arguments: Sequence[str]) -> int:
    """Print each line as soon as it is measured, so that an error loses no earlier line."""
    for measurement in run(parse_workload(arguments)):
        print(measurement.to_json(), flush=True)
    return 0


def parse_workload(arguments: Sequence[str]) -> GpuWorkload:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="smoke test; the figures mean nothing")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no measurement after this time")
    parser.add_argument("--threads", type=int, default=14, help="threads that prepare and render images")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--compiled-batches", type=int, nargs="*", default=[16, 1, 8, 32, 4])
    chosen = parser.parse_args(arguments)
    return GpuWorkload(
        device=chosen.device,
        is_tiny=chosen.tiny,
        batches=(1, 2) if chosen.tiny else tuple(chosen.batches),
        compiled_batches=() if chosen.tiny else tuple(chosen.compiled_batches),
        images=4 if chosen.tiny else 512,
        seconds=0.05 if chosen.tiny else 4.0,
        matrix=256 if chosen.tiny else 8192,
        threads=2 if chosen.tiny else chosen.threads,
        deadline=time.monotonic() + 60 * chosen.minutes,
    )


def run(workload: GpuWorkload) -> Iterator[Measurement]:
    """Measure all variants, those that need a compilation last."""
    print_progress("gpu: building the model")
    model = build_random_model(SWIN_TOY if workload.is_tiny else SWIN_LARGE)
    rates = {dtype: matmul_rate(workload, dtype) for dtype in (torch.float32, torch.bfloat16)}
    rounded = {dtype_name(dtype): round(rate, 2) for dtype, rate in rates.items()}
    yield build_measurement(workload, "gpu.matmul", {"side": workload.matrix}, rounded)
    pixels = model.processor(images=[sample_images()[0]], return_tensors="pt")["pixel_values"]
    exact = Variant("exact, float32", ExecutionPlan(band_bytes=GPU_BUDGET))
    fast = Variant("fast, float32", ExecutionPlan(is_fast=True, band_bytes=GPU_BUDGET))
    bfloat16 = Variant("fast, bfloat16", ExecutionPlan(is_fast=True, dtype=torch.bfloat16, band_bytes=GPU_BUDGET))
    reference = model.segmenter(workload.device, exact.plan)
    baseline = Baseline(reference, pixels, count_flops(model, pixels), rates)
    for variant in (exact, fast, bfloat16):
        segmenter = model.segmenter(workload.device, variant.plan) if variant.plan.is_fast else reference
        yield from _measure_variant(workload, variant, segmenter, baseline)
    yield from _measure_pipeline(workload, model)
    for batch in workload.compiled_batches:
        yield from _measure_compiled(workload, model, baseline, batch)


def _measure_variant(
    workload: GpuWorkload, variant: Variant, segmenter: Mask2FormerSegmenter, baseline: Baseline
) -> Iterator[Measurement]:
    for batch in workload.batches:
        if workload.is_over:
            yield _report_left_out(workload, {"way": variant.name, "batch": batch})
            continue
        yield _measure_forward(workload, variant, segmenter, baseline, batch)
        yield _measure_whole(workload, variant, segmenter, batch)
    if variant.plan.is_fast:
        yield _measure_agreement(workload, variant, segmenter, baseline.exact)


def _measure_compiled(
    workload: GpuWorkload, model: RandomModel, baseline: Baseline, batch: int
) -> Iterator[Measurement]:
    if workload.is_over:
        yield _report_left_out(workload, {"compiled batch": batch})
        return
    variant = Variant("fast, bfloat16, compiled", ExecutionPlan(True, torch.bfloat16, (batch,), GPU_BUDGET))
    print_progress(f"gpu: compiling for batches of {batch}")
    segmenter = model.segmenter(workload.device, variant.plan)
    start = time.perf_counter()
    segmenter.warm_up()
    figures = {"seconds": round(time.perf_counter() - start, 1)}
    yield build_measurement(workload, "gpu.compile", {"way": variant.name, "batch": batch}, figures)
    yield _measure_forward(workload, variant, segmenter, baseline, batch)
    yield _measure_whole(workload, variant, segmenter, batch)
    if batch == workload.compiled_batches[0]:
        yield _measure_agreement(workload, variant, segmenter, baseline.exact)


def _measure_forward(
    workload: GpuWorkload, variant: Variant, segmenter: Mask2FormerSegmenter, baseline: Baseline, batch: int
) -> Measurement:
    """Time the forward pass alone, with its input on the device."""
    print_progress(f"gpu: forward, {variant.name}, batches of {batch}")
    pixels = baseline.pixels.expand(batch, -1, -1, -1).contiguous().to(workload.device)  # (B, 3, h, w)
    reset_peak_memory(workload.device)
    with torch.inference_mode():
        seconds = median_seconds(workload, lambda: segmenter._run_network(pixels))
    # Counts the operations of the reference's forward pass; those that the fast pass avoids count as well.
    teraflops = baseline.flops * batch / seconds / 1e12
    figures = {
        "median_ms": round(1e3 * seconds, 2),
        "images_per_second": round(batch / seconds, 1),
        "teraflops": round(teraflops, 2),
        "share_of_matmul_rate": round(teraflops / baseline.matmul_rates[variant.plan.dtype], 3),
        "peak_gb": peak_memory_gb(workload.device),
    }
    return build_measurement(workload, "gpu.forward", {"way": variant.name, "batch": batch}, figures)


def _measure_whole(workload: GpuWorkload, variant: Variant, segmenter: Mask2FormerSegmenter, batch: int) -> Measurement:
    """Time images from pixels in memory to rendered files; threads prepare and render while the device works."""
    print_progress(f"gpu: whole images, {variant.name}, batches of {batch}")
    images = build_images(workload, batch)
    process_images(segmenter, images[: 2 * batch], batch, workload.threads)
    reset_peak_memory(workload.device)
    totals = process_images(segmenter, images, batch, workload.threads)
    figures = {
        "images_per_second": round(len(images) / totals.seconds, 2),
        "device_thread_busy": round(totals.device_seconds / totals.seconds, 3),
        "gpu_busy": gpu_busy_share(workload, segmenter, images[: 4 * batch], batch),
        "segments": totals.segments,
        "peak_gb": peak_memory_gb(workload.device),
    }
    return build_measurement(workload, "gpu.whole", _whole_settings(variant.name, batch, len(images)), figures)


def _measure_pipeline(workload: GpuWorkload, model: RandomModel) -> Iterator[Measurement]:
    """Time transformers' pipeline, which prepares, segments and post-processes in one thread."""
    pipeline = model.pipeline(workload.device)
    parameters = {"threshold": LENIENT.threshold, "overlap_mask_area_threshold": LENIENT.overlap_mask_area_threshold}
    for batch in workload.batches:
        if workload.is_over:
            yield _report_left_out(workload, {"way": "pipeline", "batch": batch})
            continue
        print_progress(f"gpu: pipeline, batches of {batch}")
        images = build_images(workload, batch)[: max(batch, MAX_PIPELINE_IMAGES)]
        list(pipeline(images[:batch], batch_size=batch, **parameters))
        start = time.perf_counter()
        segments = sum(len(one) for one in pipeline(images, batch_size=batch, **parameters))
        rate = len(images) / (time.perf_counter() - start)
        figures = {"images_per_second": round(rate, 2), "segments": segments}
        settings = _whole_settings("pipeline, float32", batch, len(images))
        yield build_measurement(workload, "gpu.whole", settings, figures)


def _measure_agreement(
    workload: GpuWorkload, variant: Variant, ours: Mask2FormerSegmenter, exact: Mask2FormerSegmenter
) -> Measurement:
    """Compare labels with those of the exact pass.  Random masks have more undecided pixels than trained ones."""
    shares = []
    for image in sample_images():
        [one], [other] = (
            segment_batch(segmenter, [prepare_image(segmenter, image, LENIENT)]) for segmenter in (ours, exact)
        )
        shares.append(equal_label_share(one, other))
    figures = {"equal_pixels": round(statistics.mean(shares), 5), "worst_photo": round(min(shares), 5)}
    return build_measurement(workload, "gpu.agreement", {"way": variant.name, "beside": "exact, float32"}, figures)


def _report_left_out(workload: GpuWorkload, settings: dict[str, Any]) -> Measurement:
    return build_measurement(workload, "gpu.left_out", settings, {"minutes were over": True})


def _whole_settings(variant: str, batch: int, images: int) -> dict[str, Any]:
    return {"way": variant, "batch": batch, "photos": images, "image": "x".join(map(str, IMAGE_SIZE))}


def build_measurement(
    workload: GpuWorkload, bench: str, settings: dict[str, Any], figures: dict[str, Any]
) -> Measurement:
    model = "swin-toy" if workload.is_tiny else "swin-large"
    return Measurement(bench, {"model": model, **settings}, figures, device_name(workload.device))


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all images of one run.

    seconds: wall time.  device_seconds: time in Segmenter.segment(), waiting for the device included.
    """

    seconds: float
    device_seconds: float
    segments: int


def process_images(segmenter: Mask2FormerSegmenter, images: Sequence[Image.Image], batch: int, threads: int) -> Totals:
    """Segment images as a worker does: threads prepare and render, the calling thread alone uses the device."""
    device_seconds, segments = 0.0, 0
    start = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        rendered: deque[Any] = deque()
        prefetched = prefetch(pool, segmenter, images, max_ahead=4 * batch + threads)
        while prepared := list(islice(prefetched, batch)):
            batch_start = time.perf_counter()
            results = segment_batch(segmenter, prepared)
            device_seconds += time.perf_counter() - batch_start
            segments += sum(len(result.segments) for result in results)
            rendered.extend(pool.submit(render, result) for result in results)
        for future in rendered:
            future.result()
    return Totals(time.perf_counter() - start, device_seconds, segments)


def prefetch(
    pool: ThreadPoolExecutor, segmenter: Mask2FormerSegmenter, images: Sequence[Image.Image], *, max_ahead: int
) -> Iterator[Prepared]:
    """Prepare images in the pool, at most `max_ahead` in advance, and yield them in order."""
    pending: deque[Any] = deque()
    for image in images:
        pending.append(pool.submit(prepare_image, segmenter, image, LENIENT))
        if len(pending) >= max_ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def render(result: Segmentation) -> int:
    """Render the default files of a job except the overlay; return their size in bytes."""
    return sum(len(output.render(RenderSource(result)).content) for output in (labels, masks))


def gpu_busy_share(
    workload: GpuWorkload, segmenter: Mask2FormerSegmenter, images: Sequence[Image.Image], batch: int
) -> float | None:
    """Return the share of time, in [0, 1], in which the GPU ran kernels; None without a GPU.

    The profiler slows the host down.
    """
    if not workload.device.startswith("cuda"):
        return None
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        totals = process_images(segmenter, images, batch, workload.threads)
    kernel_us = sum(event.self_device_time_total for event in profiler.key_averages())
    return round(kernel_us / 1e6 / totals.seconds, 3)


def matmul_rate(workload: GpuWorkload, dtype: torch.dtype) -> float:
    """Return the TFLOP/s of large matrix products, an upper bound for the forward pass."""
    print_progress(f"gpu: matrix products, {dtype_name(dtype)}")
    side = workload.matrix
    a, b = (torch.randn(side, side, device=workload.device, dtype=dtype) for _ in range(2))
    return 2 * side**3 / median_seconds(workload, lambda: a @ b) / 1e12


def count_flops(model: RandomModel, pixels: torch.Tensor) -> float:
    """Return the floating-point operations of the reference's forward pass on `pixels`, (1, 3, h, w)."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model.network(pixel_values=pixels)
    return float(counter.get_total_flops())


def median_seconds(workload: GpuWorkload, call: Callable[[], object]) -> float:
    """Return the median duration of single calls, each synchronized with the device, after WARM_UP_CALLS calls."""
    for _ in range(WARM_UP_CALLS):
        call()
    synchronize(workload.device)
    durations: list[float] = []
    deadline = time.perf_counter() + workload.seconds
    while len(durations) < MIN_CALLS or time.perf_counter() < deadline:
        start = time.perf_counter()
        call()
        synchronize(workload.device)
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def reset_peak_memory(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory_gb(device: str) -> float | None:
    """Return the most memory that torch has allocated since the last reset, in GB; None without a GPU."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 2) if device.startswith("cuda") else None


def build_images(workload: GpuWorkload, batch: int) -> list[Image.Image]:
    """Return images of IMAGE_SIZE; fewer for small batches, because these are slower."""
    count = workload.images if workload.is_tiny else min(workload.images, max(64, 16 * batch))
    return list(islice(cycle(image.resize(IMAGE_SIZE) for image in sample_images()), count))


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
