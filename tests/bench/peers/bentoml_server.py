"""BentoML with the pipeline:  bentoml serve tests.bench.peers.bentoml_server:Segmentation --port PORT"""

import bentoml

from tests.bench.peers.pipeline import MOST_IN_A_BATCH, Answer, answers, load


@bentoml.service(workers=1, traffic={"timeout": 300})
class Segmentation:
    """One process with one model; requests are batched as the server finds best."""

    def __init__(self) -> None:
        self.pipeline = load()

    # Not a bound on the answer's time but what a request is refused beyond.
    @bentoml.api(batchable=True, max_batch_size=MOST_IN_A_BATCH, max_latency_ms=300_000)
    def segment(self, inputs: list[str]) -> list[Answer]:
        return answers(self.pipeline, inputs)
