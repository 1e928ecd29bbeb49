"""datumaro reads cvat.xml, and label-studio-converter the brush masks of labelstudio.json: pixels and labels."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conformance.forms import require_client
from tests.conformance.install import CLIENTS, readers_python
from tests.support.label_maps import build_label_maps, build_segmentation
from worker.formats import cvat, labelstudio
from worker.formats.rendered import RenderSource
from worker.segmenter import Segmentation

NAMES = ("one pixel", "hole", "island in a hole", "touching corners", "very wide", "empty segment", "blobs", "cat")
TIMEOUT_SECONDS = 120

# The first test installs the readers if necessary.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what each reader made of each label map."""
    python = require_client(readers_python)
    root = tmp_path_factory.mktemp("readers")
    for name in NAMES:
        write_files(build_segmentation(build_label_maps()[name]), root / name)
    subprocess.run([python, CLIENTS / "readers.py", root], check=True, timeout=TIMEOUT_SECONDS)
    return root


def write_files(segmentation: Segmentation, folder: Path) -> None:
    source = RenderSource(segmentation, file_name="photo.png", model="org/name")
    (folder / "images").mkdir(parents=True)
    height, width = segmentation.label_map.shape
    Image.new("RGB", (width, height)).save(folder / "images" / "photo.png")
    (folder / "cvat.xml").write_bytes(cvat.render(source).content)
    (folder / "labelstudio.json").write_bytes(labelstudio.render(source).content)


def expect_masks(name: str) -> np.ndarray:
    """Return (segments, H, W) bool of the segments that have pixels."""
    segmentation = build_segmentation(build_label_maps()[name])
    return np.array([segmentation.label_map == one.id for one in segmentation.segments if one.area])


@pytest.mark.parametrize("name", NAMES)
def test_datumaro_reads_the_pixels_of_cvat_xml(folder: Path, name: str) -> None:
    assert np.array_equal(np.load(folder / name / "cvat.npy"), expect_masks(name))


@pytest.mark.parametrize("name", NAMES)
def test_datumaro_reads_the_labels_of_cvat_xml(folder: Path, name: str) -> None:
    labels = [one.label for one in build_segmentation(build_label_maps()[name]).segments if one.area]

    assert json.loads((folder / name / "cvat.txt").read_text()) == labels


@pytest.mark.parametrize("name", NAMES)
def test_label_studio_converter_reads_the_pixels_of_brushes(folder: Path, name: str) -> None:
    assert np.array_equal(np.load(folder / name / "labelstudio.npy"), expect_masks(name))
