"""Images of extreme proportions have a result, or an error that says so, with every way of preparing them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.errors import ImageTooNarrow, MaskmillError
from shared.jobs.parameters import SegmentParameters
from tests.integration.test_same_as_transformers import load
from worker.embedded_model import FOLDER
from worker.segmenter import Segmentation, Segmenter, prepare_image

SIZES = [(65_500, 1), (1, 65_500), (2000, 1), (1, 300), (40_000, 3), (1, 1)]
PROCESSORS: dict[str, dict[str, Any]] = {
    "a fixed size": {"size": {"height": 64, "width": 64}},
    "a short side, and a long one at most": {"size": {"shortest_edge": 64, "longest_edge": 128}},
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=PROCESSORS.values(), ids=list(PROCESSORS))
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    folder = tmp_path_factory.mktemp("model")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
    file = folder / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | request.param))
    return load(str(folder), tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("size", SIZES)
def test_a_narrow_image_has_a_result_or_an_error_that_says_so(segmenter: Segmenter, size: tuple[int, int]) -> None:
    parameters = SegmentParameters(threshold=0.0)
    try:
        [result] = segmenter.segment([prepare_image(segmenter, Image.new("RGB", size), parameters)])
    except ImageTooNarrow as error:
        assert f"{size[0]} x {size[1]} pixels" in str(error)
        assert segmenter.resize is None
        return

    assert not isinstance(result, MaskmillError)
    assert isinstance(result, Segmentation)
    assert result.label_map.shape == size[::-1]


def test_a_processor_that_keeps_proportions_refuses_some(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "model")
    file = tmp_path / "model" / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"size": {"shortest_edge": 64, "longest_edge": 128}}))
    segmenter = load(str(tmp_path / "model"), tmp_path / "cache")

    with pytest.raises(ImageTooNarrow):
        prepare_image(segmenter, Image.new("RGB", (65_500, 1)), SegmentParameters())
