"""A recut beside a new job: how long its answer takes, how large its file is, and on how many pixels both agree.

Answers are those of a gateway and a renderer over real servers; each call has another threshold, so that none is
answered with another's reply.
"""

import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from deploy.local.stack import Stack
from shared.jobs.parameters import SegmentParameters
from shared.redis_client import connect
from shared.settings import Settings
from tests.bench.measurement import Measurement, Workload, latency_summary, print_progress, time_interleaved
from tests.bench.reference import load_embedded_segmenter
from tests.bench.service import Client
from tests.support.environment import copy_environment, get_fields
from tests.support.images import jpeg
from tests.support.process_memory import read_memory
from tests.support.recut_grid import FLOOR, GRID, open_photos
from tests.support.renderer import wait_alive
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.engine.postprocessing.types import Budget
from worker.engine.recut import recut
from worker.recut.file import RecutData
from worker.recut.kept import KeepRule
from worker.segmenter import Prepared, Segmentation, prepare_image

RULE = KeepRule(FLOOR, 8 * 10**6)
THRESHOLD = 0.5
# (width, height) of the photo, and the longest side of the answer.
CASES: tuple[tuple[tuple[int, int], int | None], ...] = (
    ((640, 480), None),
    ((640, 480), 256),
    ((4000, 3000), 1024),
    ((4000, 3000), None),
)


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure files and agreement in this process, then answers of a whole service."""
    segmenter = load_embedded_segmenter(ExecutionOptions("fast"))
    assert isinstance(segmenter, Mask2FormerSegmenter)
    photos = dict(itertools.islice(open_photos().items(), workload.images + 1))
    for name, photo in photos.items():
        print_progress(f"recut: {name}")
        yield measure_photo(segmenter, name, photo)
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as folder:
        yield from measure_service(segmenter, Path(folder), workload)


def measure_photo(segmenter: Mask2FormerSegmenter, name: str, photo: Image.Image) -> Measurement:
    """Measure the file of a photo, and compare its recuts with new jobs, each with a forward pass of its own."""
    data = keep(segmenter, photo)
    start = time.perf_counter()
    content = data.to_bytes()
    encode_ms = 1000 * (time.perf_counter() - start)
    start = time.perf_counter()
    data = RecutData.from_bytes(content)
    decode_ms = 1000 * (time.perf_counter() - start)
    figures = {
        "file_bytes": len(content),
        "raw_bytes": data.logits.class_logits.nbytes + data.logits.mask_logits.nbytes,
        "queries_kept": len(data.logits.queries),
        "queries": len(data.logits.class_logits),
        "encode_ms": round(encode_ms, 2),
        "decode_ms": round(decode_ms, 2),
        **compare(segmenter, photo, data),
    }
    return Measurement("recut.photo", {"photo": name, "image": f"{photo.width}x{photo.height}"}, figures)


def keep(segmenter: Mask2FormerSegmenter, photo: Image.Image) -> RecutData:
    """Run a job, and return what is kept of it."""
    prepared = replace(prepare_image(segmenter, photo, SegmentParameters()), keep=RULE)
    [job] = segmenter.segment([prepared])
    assert isinstance(job, Segmentation) and job.kept and segmenter.recut_model
    return RecutData("m", "r", photo.height, photo.width, segmenter.recut_model, job.kept)


def compare(segmenter: Mask2FormerSegmenter, photo: Image.Image, data: RecutData) -> Mapping[str, Any]:
    """Compare recuts with new jobs in all settings of the grid."""
    shares: list[float] = []
    same_segments = 0
    for parameters in GRID:
        [fresh] = segmenter.segment([prepare_image(segmenter, photo, parameters)])
        assert isinstance(fresh, Segmentation)
        result = recut(data, parameters, fresh.label_map.shape, Budget())
        shares.append(float((result.label_map == fresh.label_map).mean()))
        same_segments += result.segments == fresh.segments
    return {"settings": len(GRID), "min_equal_share": min(shares), "settings_with_equal_segments": same_segments}


def measure_service(segmenter: Mask2FormerSegmenter, folder: Path, workload: Workload) -> Iterator[Measurement]:
    """Start a service with a renderer, and measure answers of each case."""
    print_progress("recut: starting the stack")
    with Stack(folder, environ=copy_environment()) as service:
        service.start()
        renderer = service.renderer
        wait_alive(renderer, connect(Settings(**get_fields(service.env))))
        idle_bytes = read_memory(renderer.pid)
        client = Client(service.port)
        # With more segments than most.
        busy = open_photos()["photo"]
        for size, max_side in CASES:
            photo = busy.resize(size, Image.Resampling.BICUBIC)
            job_id = client.run_job(jpeg(photo))
            print_progress(f"recut: {size}, {max_side}")
            figures = measure_answers(client, job_id, max_side, workload)
            if max_side is None:
                figures |= compare_with_engine(segmenter, photo, figures, workload)
            memory = {"renderer_idle_mb": idle_bytes // 2**20, "renderer_mb": read_memory(renderer.pid) // 2**20}
            settings = {"image": f"{size[0]}x{size[1]}", "max_side": max_side}
            yield Measurement("recut.answer", settings, figures | memory)


def measure_answers(client: Client, job_id: str, max_side: int | None, workload: Workload) -> dict[str, Any]:
    """Time recuts of a job, one after the other; the first one of all imports torch, and is not counted."""
    numbers = itertools.count()
    stages: list[Mapping[str, float]] = []

    def call() -> None:
        members = {"threshold": THRESHOLD + next(numbers) / 10**6, "max_side": max_side}
        _, answer = client.request("POST", f"/v1/jobs/{job_id}/recut", json.dumps(members).encode())
        stages.append(answer["timings_ms"])

    call()
    stages.clear()
    times_ms = time_interleaved({"": call}, workload)[""]
    medians = {name: round(statistics.median(one[name] for one in stages), 1) for name in stages[0]}
    return {**latency_summary(times_ms), "stages_ms": medians, "calls": len(times_ms)}


def compare_with_engine(
    segmenter: Mask2FormerSegmenter, photo: Image.Image, figures: Mapping[str, Any], workload: Workload
) -> dict[str, Any]:
    """Return how long the post-processing of a job takes in this process, and the shares of both ways in it."""
    prepared = prepare_image(segmenter, photo, SegmentParameters(THRESHOLD))
    with torch.inference_mode():
        [logits] = segmenter._compute_logits([prepared])
        segmenter._postprocess(logits, prepared)
        times_ms = time_interleaved({"": lambda: postprocess(segmenter, logits, prepared)}, workload)[""]
    median = statistics.median(times_ms)
    return {
        "postprocess_ms": round(median, 1),
        "recut_to_postprocess": round(figures["stages_ms"]["recut"] / median, 2),
        "answer_to_postprocess": round(figures["median_ms"] / median, 2),
    }


def postprocess(segmenter: Mask2FormerSegmenter, logits: Any, prepared: Prepared) -> None:
    with torch.inference_mode():
        assert isinstance(segmenter._postprocess(logits, prepared), Segmentation)
