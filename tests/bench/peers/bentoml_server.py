"""BentoML with the pipeline:  bentoml serve tests.bench.peers.bentoml_server:Segmentation --port PORT"""

import bentoml

from tests.bench.peers.pipeline import MAX_BATCH_IMAGES, Segments, load, segment_images


@bentoml.service(workers=1, traffic={"timeout": 300})
class Segmentation:
    """One process with one model; BentoML's adaptive batching decides the batch sizes."""

    def __init__(self) -> None:
        self.pipeline = load()

    # BentoML refuses requests that it expects to take longer than max_latency_ms.
    @bentoml.api(batchable=True, max_batch_size=MAX_BATCH_IMAGES, max_latency_ms=300_000)
    def segment(self, inputs: list[str]) -> list[Segments]:
        return segment_images(self.pipeline, inputs)
