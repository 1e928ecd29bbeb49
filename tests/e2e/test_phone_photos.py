"""HEIC and AVIF as phones write them give the upright masks of the same pixels as PNG, at once and as a job."""

import base64
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from deploy.local.stack import Stack
from tests.support import heif
from tests.support.heif import KINDS, Item, build_heif, encode_item, full_box, grid
from tests.support.images import EXIF_ORIENTATION, ROTATED_LEFT, astronaut
from tests.support.polling import wait_until
from worker.decoding.pixels import decode

SIZE = (320, 240)  # upright, of 5 x 4 tiles
CONTENT_TYPES = {"HEIF": ("image/heic", "image/heif"), "AVIF": ("image/avif", "image/avif")}


def take_photo(kind: str) -> bytes:
    """Return a photo as a phone stores it: tiles, turned by a property, with Exif that agrees and a thumbnail."""
    sideways = astronaut().resize(SIZE).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[EXIF_ORIENTATION] = ROTATED_LEFT
    *tiles, whole = grid(sideways, kind)
    number = len(tiles) + 1
    beside = [
        Item(b"Exif", b"\0\0\0\6" + exif.tobytes(), references=((b"cdsc", (number,)),)),
        replace(encode_item(sideways.resize((60, 80)), kind), references=((b"thmb", (number,)),)),
        replace(
            encode_item(sideways.convert("L"), kind).add(
                full_box(b"auxC", b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth\0")
            ),
            references=((b"auxl", (number,)),),
        ),
    ]
    return build_heif([*tiles, whole.add(*heif.transformations(ROTATED_LEFT)), *beside], primary=number)


def as_png(photo: bytes) -> bytes:
    buffer = BytesIO()
    decode(photo, max_pixels=10**6).save(buffer, "PNG")
    return buffer.getvalue()


def test_the_photo_is_upright() -> None:
    for kind in KINDS:
        decoded = decode(take_photo(kind), max_pixels=10**6)
        assert decoded.size == SIZE
        assert np.abs(np.asarray(decoded).astype(int) - np.asarray(astronaut().resize(SIZE))).mean() < 6


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_a_photo_are_upright_at_once(stack: Stack, kind: str) -> None:
    photo = take_photo(kind)
    expected = stack.client.request("POST", "/?subtask=semantic", as_png(photo), "image/png").json()

    for content_type in CONTENT_TYPES[kind]:
        answer = stack.client.request("POST", "/?subtask=semantic", photo, content_type)

        assert (answer.status, answer.json()) == (200, expected)
        assert Image.open(BytesIO(base64.b64decode(answer.json()[0]["mask"]))).size == SIZE


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_map_of_a_photo_is_upright_as_a_job(stack: Stack, kind: str) -> None:
    photo = take_photo(kind)

    def make_labels(image: bytes, content_type: str) -> np.ndarray:
        job = stack.client.request(
            "POST", "/v1/jobs?subtask=semantic&formats=labels,overlay", image, content_type
        ).json()
        path = f"/v1/jobs/{job['id']}"
        wait_until(lambda: stack.client.get(path).json()["state"] == "succeeded", "the end of the job", seconds=60)
        assert stack.client.get(f"{path}/result").json()["image"]["format"] == content_type.removeprefix("image/")
        assert Image.open(BytesIO(stack.client.get(f"{path}/overlay.png").body)).size == SIZE
        return np.asarray(Image.open(BytesIO(stack.client.get(f"{path}/labels.png").body)))

    labels = make_labels(photo, CONTENT_TYPES[kind][0])

    assert labels.shape == SIZE[::-1]
    assert np.array_equal(labels, make_labels(as_png(photo), "image/png"))
