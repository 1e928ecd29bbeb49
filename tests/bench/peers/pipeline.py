"""What both peers serve: transformers' pipeline with the embedded model, its masks in the same JSON form as ours."""

import warnings
from base64 import b64decode, b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import transformers
from PIL import Image

from worker import embedded_model
from worker.embedded_model.backbone import register

THRESHOLD = 0.5
# The worker of the comparison runs as many jobs at a time, so no server can form larger batches than another.
MAX_BATCH_IMAGES = 8
# How long the first image of a batch waits for others.
MAX_BATCH_WAIT_SECONDS = 0.01

Segments = list[dict[str, Any]]


def load() -> Any:
    """Return the pipeline on the CPU."""
    register()
    with warnings.catch_warnings():
        # transformers advises on the speed of a CUDA kernel that this model does not use.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return transformers.pipeline(
            "image-segmentation", model=str(embedded_model.FOLDER), device="cpu", trust_remote_code=False
        )


def segment_images(pipeline: Any, images: Sequence[str]) -> list[Segments]:
    """Segment images (base64) in one batch; each mask is returned as base64 of an 8-bit PNG."""
    decoded = [Image.open(BytesIO(b64decode(image))).convert("RGB") for image in images]
    results = pipeline(decoded, batch_size=len(decoded), threshold=THRESHOLD)
    return [[{**segment, "mask": _encode_png(segment["mask"])} for segment in segments] for segments in results]


def _encode_png(mask: Image.Image) -> str:
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode("ascii")
