"""What both peers serve: transformers' own pipeline with the embedded model, its masks as the same JSON as ours."""

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
# The worker under test has as many jobs in hand, so no side can make larger batches than the other.
MOST_IN_A_BATCH = 8
# How long the first image waits for company.
COMPANY_SECONDS = 0.01

Answer = list[dict[str, Any]]


def load() -> Any:
    """Return the pipeline on the CPU."""
    register()
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return transformers.pipeline("image-segmentation", model=str(embedded_model.FOLDER), device="cpu")


def answers(pipeline: Any, photos: Sequence[str]) -> list[Answer]:
    """Segment photos (base64) in one batch; the masks of each come back as base64 of an 8-bit PNG."""
    images = [Image.open(BytesIO(b64decode(photo))).convert("RGB") for photo in photos]
    found = pipeline(images, batch_size=len(images), threshold=THRESHOLD)
    return [[{**segment, "mask": _encoded(segment["mask"])} for segment in segments] for segments in found]


def _encoded(mask: Image.Image) -> str:
    buffer = BytesIO()
    mask.save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode("ascii")
