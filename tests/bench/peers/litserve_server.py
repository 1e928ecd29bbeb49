"""LitServe with the pipeline:  python -m tests.bench.peers.litserve_server PORT"""

import sys
from typing import Any

import litserve

from tests.bench.peers.pipeline import MAX_BATCH_IMAGES, MAX_BATCH_WAIT_SECONDS, Segments, load, segment_images


class Segmentation(litserve.LitAPI):
    """One process with one model; requests are batched."""

    def setup(self, device: str) -> None:
        self.pipeline = load()

    def decode_request(self, request: dict[str, Any]) -> str:
        return str(request["inputs"])

    def predict(self, images: list[str]) -> list[Segments]:
        return segment_images(self.pipeline, images)

    def encode_response(self, segments: Segments) -> Segments:
        return segments


if __name__ == "__main__":
    api = Segmentation(max_batch_size=MAX_BATCH_IMAGES, batch_timeout=MAX_BATCH_WAIT_SECONDS)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=300)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="warning")
