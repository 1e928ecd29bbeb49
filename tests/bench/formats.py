"""Processor time and size of the file of each format, of a few segments and of 300 with uneven borders."""

import statistics
import time
from collections.abc import Iterator
from functools import partial

from PIL import Image

from shared.formats.registry import FORMATS
from shared.images.opening import fit_size
from tests.bench.measurement import Measurement, Workload, print_progress
from tests.support.label_maps import blobs, build_segmentation
from worker.formats.drawing import MAX_OVERLAY_SIDE
from worker.formats.outlines import list_rings
from worker.formats.rendered import RenderSource
from worker.formats.simplification import get_outlines
from worker.pipeline.rendering import Renderer, load_renderers
from worker.segmenter import Segmentation

SEGMENTS = (15, 330)


def run(workload: Workload) -> Iterator[Measurement]:
    """Measure each size with each number of segments."""
    for width, height in workload.host_sizes:
        for segments in SEGMENTS:
            print_progress(f"formats: {width}x{height}, {segments} segments")
            yield measure(build_segmentation(blobs(width, height, segments)), workload)


def measure(segmentation: Segmentation, workload: Workload) -> Measurement:
    """Render each format from a source of its own, so that it pays for all that it needs."""
    height, width = segmentation.label_map.shape
    photo = Image.new("RGB", fit_size((width, height), MAX_OVERLAY_SIDE), (90, 120, 150))
    outlines = get_outlines(RenderSource(segmentation))
    visible = sum(1 for one in segmentation.segments if one.area)
    settings = {"image": f"{width}x{height}", "segments": visible}
    figures: dict[str, float] = {"corners": sum(len(ring) for found in outlines.values() for ring in list_rings(found))}
    for one, render in zip(FORMATS, load_renderers().values(), strict=True):
        figures[f"{one.name}_cpu_ms"] = _median_cpu_ms(partial(RenderSource, segmentation, photo), render, workload)
        figures[f"{one.name}_kb"] = round(len(render(RenderSource(segmentation, photo)).content) / 1000)
    return Measurement("formats", settings, figures)


def _median_cpu_ms(build: partial[RenderSource], render: Renderer, workload: Workload) -> float:
    """Return the median processor time of a call; other load on the machine hardly affects it."""
    times = []
    for _ in range(workload.min_calls):
        start = time.process_time()
        render(build())
        times.append(time.process_time() - start)
    return round(1000 * statistics.median(times), 1)
