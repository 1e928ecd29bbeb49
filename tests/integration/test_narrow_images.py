"""Images of extreme proportions have the result of transformers' pipeline, or an error that says why not.

With every way in which a processor brings an image to a size, and with several families of models.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from PIL import Image

from shared.errors import ImageTooLarge, ImageTooNarrow, MaskmillError
from shared.jobs.parameters import SegmentParameters
from tests.integration.test_same_as_transformers import (
    assert_same,
    load,
    load_reference,
    save_small_maskformer,
    save_small_segformer,
)
from worker.embedded_model import FOLDER
from worker.embedded_model.backbone import register
from worker.segmenter import Segmentation, Segmenter, prepare_image

# (width, height)
SIZES = [(5000, 1), (2, 3000), (1, 90), (400, 5), (1, 1), (33, 47)]
HUGE = [(65_500, 1), (1, 65_500)]
PARAMETERS = SegmentParameters(threshold=0.0)

pytestmark = pytest.mark.usefixtures("one_thread")


def save_embedded(folder: Path) -> None:
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)


def save_small_detr(folder: Path) -> None:
    stages = [f"stage{number}" for number in range(1, 5)]
    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 32, 64], depths=[1] * 4, layer_type="basic", out_features=stages
    )
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        backbone_config=backbone,
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_queries=8,
        id2label={number: f"class {number}" for number in range(5)},
    )
    transformers.DetrForSegmentation(config).save_pretrained(folder)
    transformers.DetrImageProcessorPil().save_pretrained(folder)


LIMITED = {"size": {"shortest_edge": 64, "longest_edge": 128}}
MODELS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "mask2former, a short side and a long one at most": (save_embedded, LIMITED),
    "mask2former, a short side, not divided": (save_embedded, LIMITED | {"size_divisor": 0}),
    "mask2former, the largest that fits": (save_embedded, {"size": {"max_height": 64, "max_width": 96}}),
    "mask2former, its own size": (save_embedded, {"do_resize": False}),
    "mask2former, one size, padded": (
        save_embedded,
        {"size": {"height": 64, "width": 96}, "pad_size": {"height": 96, "width": 128}},
    ),
    "maskformer, a short side and a long one at most": (save_small_maskformer, LIMITED),
    "detr, a short side and a long one at most": (save_small_detr, LIMITED),
    "detr, the largest that fits": (save_small_detr, {"size": {"max_height": 64, "max_width": 96}}),
    "segformer, a short side and a long one at most": (save_small_segformer, LIMITED),
    "segformer, a short side": (save_small_segformer, {"size": {"shortest_edge": 64}}),
}


@dataclass(frozen=True)
class LoadedPair:
    """A model here, and in transformers."""

    segmenter: Segmenter
    pipeline: Any


@pytest.fixture(scope="module", params=MODELS.values(), ids=list(MODELS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedPair:
    folder = tmp_path_factory.mktemp("model")
    save, members = request.param
    register()
    save(folder)
    change_processor(folder, members)
    return LoadedPair(load(str(folder), tmp_path_factory.mktemp("cache")), load_reference(folder))


def change_processor(folder: Path, members: dict[str, Any]) -> None:
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | members))


def draw(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def segment(segmenter: Segmenter, *sizes: tuple[int, int]) -> list[Segmentation | MaskmillError]:
    """Return the results of one batch; an image that cannot be prepared has its error."""
    return list(segment_all(segmenter, sizes))


def segment_all(segmenter: Segmenter, sizes: tuple[tuple[int, int], ...]) -> Iterator[Segmentation | MaskmillError]:
    prepared: list[Any] = []
    for size in sizes:
        try:
            prepared.append(prepare_image(segmenter, draw(size), PARAMETERS))
        except MaskmillError as error:
            prepared.append(error)
    results = iter(segmenter.segment([one for one in prepared if not isinstance(one, MaskmillError)]))
    return (one if isinstance(one, MaskmillError) else next(results) for one in prepared)


@pytest.mark.parametrize("size", SIZES)
def test_a_narrow_image_has_the_result_of_the_pipeline_or_an_error_that_says_why_not(
    pair: LoadedPair, size: tuple[int, int]
) -> None:
    [result] = segment(pair.segmenter, size)

    if isinstance(result, MaskmillError):
        assert isinstance(result, ImageTooNarrow)
        assert f"{size[0]} x {size[1]} pixels is too narrow" in str(result)
        assert min(size) < 32, "an ordinary image was refused"
        is_enlarged = "at most" in str(result)
        if not is_enlarged:
            with pytest.raises((ValueError, RuntimeError)):
                pair.pipeline(draw(size), threshold=0.0)
    else:
        assert result.label_map.shape == size[::-1]
        assert_same(result, pair.pipeline(draw(size), threshold=0.0))


@pytest.mark.parametrize("size", HUGE)
def test_the_narrowest_images_are_answered_at_once(pair: LoadedPair, size: tuple[int, int]) -> None:
    start = time.thread_time()

    [result] = segment(pair.segmenter, size)

    assert time.thread_time() - start < 10
    if isinstance(result, MaskmillError):
        assert isinstance(result, ImageTooNarrow)
    else:
        assert result.label_map.shape == size[::-1]


def test_a_narrow_image_does_not_affect_the_others_of_its_batch(pair: LoadedPair) -> None:
    [alone] = segment(pair.segmenter, (300, 200))

    results = segment(pair.segmenter, (5000, 1), (300, 200), (1, 90), (1, 1))

    assert isinstance(results[1], Segmentation) and isinstance(alone, Segmentation)
    assert results[1].segments == alone.segments


@pytest.mark.parametrize("save", [save_embedded, save_small_segformer], ids=["mask2former", "segformer"])
def test_an_image_that_is_not_resized_is_bounded(save: Callable[[Path], None], tmp_path: Path) -> None:
    save(tmp_path)
    change_processor(tmp_path, {"do_resize": False})
    segmenter = load(str(tmp_path), tmp_path)

    with pytest.raises(ImageTooLarge, match=r"2100 x 2000 pixels is too large: .* at most 4000000 pixels"):
        prepare_image(segmenter, Image.new("RGB", (2100, 2000)), PARAMETERS)
