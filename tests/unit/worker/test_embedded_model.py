"""The embedded model's files are consistent, and it segments the main subject of an image."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from deploy.local.sample_job import SAMPLE_IMAGE
from shared.jobs.parameters import SegmentParameters
from tests.bench.reference import load_embedded_segmenter
from tests.support.images import admiral, astronaut, cat
from worker.embedded_model import FOLDER
from worker.embedded_model.backbone import EfficientNetLiteBackbone, EfficientNetLiteConfig
from worker.engine.coco_classes import STUFF, THINGS
from worker.segmenter import Segmentation, Segmenter, prepare_image
from worker.training.classes import QUERIES_PER_CLASS

pytestmark = pytest.mark.usefixtures("one_thread")

MAX_BYTES = 30 * 2**20
CHEST = slice(150, 500), slice(150, 320)


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return load_embedded_segmenter()


def test_the_backbone_has_maps_at_the_strides_that_mask2former_expects() -> None:
    backbone = EfficientNetLiteBackbone(EfficientNetLiteConfig()).eval()

    with torch.inference_mode():
        maps = backbone(torch.zeros(1, 3, 256, 192)).feature_maps

    assert [tuple(one.shape[1:]) for one in maps] == [(24, 64, 48), (48, 32, 24), (120, 16, 12), (352, 8, 6)]
    assert backbone.channels == [24, 48, 120, 352]


def test_the_maps_can_encode_positions() -> None:
    without, with_positions = (
        EfficientNetLiteBackbone(EfficientNetLiteConfig(place_waves=waves)).eval() for waves in (0, 2)
    )
    with_positions.load_state_dict(without.state_dict())
    pixels = torch.rand(2, 3, 64, 96)

    with torch.inference_mode():
        plain, encoded = (backbone(pixels).feature_maps for backbone in (without, with_positions))

    assert with_positions.channels == [24 + 8, 48 + 8, 120 + 8, 352 + 8]
    for one, other in zip(plain, encoded, strict=True):
        assert torch.equal(other[:, :-8], one)
        positions = other[:, -8:]
        assert torch.equal(positions[0], positions[1])
        assert len(torch.unique(positions[0].flatten(1), dim=1).T) == one.shape[2] * one.shape[3]


def test_the_weights_are_small_and_in_half_precision() -> None:
    file = FOLDER / "model.safetensors"

    with safe_open(file, "pt") as weights:
        kinds = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118

    assert file.stat().st_size <= MAX_BYTES
    assert kinds == {"F16", "I64"}


def test_the_trained_classes_are_classes_of_coco() -> None:
    assert set(QUERIES_PER_CLASS) <= THINGS | STUFF
    assert all(count == 1 for name, count in QUERIES_PER_CLASS.items() if name in STUFF)
    assert all(count > 1 for name, count in QUERIES_PER_CLASS.items() if name in THINGS)


def save_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = BytesIO()
    image.save(file, "jpeg", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "subject", "middle"),
    [
        pytest.param(astronaut(), "person", CHEST, id="astronaut"),
        *(
            pytest.param(save_jpeg(astronaut(), quality), "person", CHEST, id=f"astronaut, JPEG of quality {quality}")
            for quality in (50, 60, 75, 85, 95)
        ),
        pytest.param(admiral(), "person", (slice(100, 600), slice(130, 400)), id="admiral"),
        pytest.param(cat(), "cat", (slice(60, 240), slice(100, 350)), id="cat"),
        pytest.param(
            Image.open(SAMPLE_IMAGE).convert("RGB"),
            "person",
            (slice(150, 400), slice(80, 180)),
            id="sample of make serve",
        ),
    ],
)
def test_the_subject_of_an_image_is_one_segment(
    segmenter: Segmenter, image: Image.Image, subject: str, middle: tuple[slice, slice]
) -> None:
    [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters())])

    assert isinstance(result, Segmentation)
    ids = [one.id for one in result.segments if one.label == subject]
    largest = max(ids, key=lambda one: (result.label_map == one).sum(), default=0)
    shown = result.label_map == largest
    # Neither cut in pieces that cover it together, nor with much of something else.
    assert largest
    assert shown[middle].mean() > 0.8
    assert shown.sum() > 0.8 * np.isin(result.label_map, ids).sum()


@pytest.mark.parametrize("people", [(admiral, astronaut), (astronaut, admiral)], ids=["admiral left", "astronaut left"])
def test_two_people_side_by_side_are_two_segments(
    segmenter: Segmenter, people: tuple[Callable[[], Image.Image], ...]
) -> None:
    side = 512
    image = Image.new("RGB", (2 * side, side))
    for number, portrait in enumerate(people):
        image.paste(portrait(), (number * side, 0))
    halves = slice(None, side), slice(side, None)
    middles = (slice(200, 500), slice(150, 320)), (slice(200, 500), slice(side + 150, side + 320))

    [result] = segmenter.segment([prepare_image(segmenter, image, SegmentParameters())])

    assert isinstance(result, Segmentation)
    people_ids = [segment.id for segment in result.segments if segment.label == "person"]
    for half, middle in zip(halves, middles, strict=True):
        areas = [(result.label_map[:, half] == one).sum() for one in people_ids]
        largest = people_ids[int(np.argmax(areas))]
        shown = result.label_map == largest
        assert shown[middle].mean() > 0.5
        assert shown[:, half].sum() > 0.8 * shown.sum()
