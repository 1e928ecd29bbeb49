"""The parts of the viewer that need no browser, in Node.js: decoding of label maps, colours, and the view's geometry.

The tests themselves are in viewer/*.test.mjs; label maps for them are written here, by the service's own encoder.
"""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from worker.formats.png import PngStrategy, encode_png

MODULES = Path(__file__).parents[3] / "api" / "ui" / "static" / "modules" / "viewer"
TESTS = sorted((Path(__file__).parent / "viewer").glob("*.test.mjs"))
SIZES = ((1, 1), (1, 9), (9, 1), (2, 3), (17, 31), (64, 64), (257, 511))
FILTERS = (
    cv2.IMWRITE_PNG_FILTER_SUB,
    cv2.IMWRITE_PNG_FILTER_UP,
    cv2.IMWRITE_PNG_FILTER_AVG,
    cv2.IMWRITE_PNG_FILTER_PAETH,
    cv2.IMWRITE_PNG_ALL_FILTERS,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the modules, the tests, and label maps: NAME.png, and NAME.raw with the ids themselves."""
    folder = tmp_path_factory.mktemp("viewer")
    shutil.copytree(MODULES, folder / "modules")
    # Browsers need no such file to know that these are modules.
    (folder / "modules" / "package.json").write_text('{"type": "module"}')
    for path in TESTS:
        shutil.copy(path, folder)
    (folder / "label_maps").mkdir()
    for name, label_map, content in list_label_maps():
        (folder / "label_maps" / f"{name}.png").write_bytes(content)
        (folder / "label_maps" / f"{name}.raw").write_bytes(label_map.tobytes())
    return folder


def list_label_maps() -> list[tuple[str, NDArray[Any], bytes]]:
    """Return (name, ids, PNG): of all sizes by the service's encoder, and with each of PNG's filters."""
    random = np.random.default_rng(5)
    maps = [(size, dtype, random_map(random, size, dtype)) for size in SIZES for dtype in (np.uint8, np.uint16)]
    written = [
        (f"{dtype.__name__}-{height}x{width}", label_map, encode_png(label_map, PngStrategy.RUN_LENGTH))
        for (height, width), dtype, label_map in maps
    ]
    for kind in FILTERS:
        for dtype in (np.uint8, np.uint16):
            noise = random.integers(0, np.iinfo(dtype).max, (40, 33), dtype, endpoint=True)
            _, encoded = cv2.imencode(".png", noise, (cv2.IMWRITE_PNG_FILTER, kind))
            written.append((f"filter{kind}-{dtype.__name__}-40x33", noise, encoded.tobytes()))
    return written


def random_map(random: np.random.Generator, size: tuple[int, int], dtype: type) -> NDArray[Any]:
    """Return blocks of ids over the whole range of the type."""
    blocks = random.integers(0, np.iinfo(dtype).max, size, dtype, endpoint=True)
    return np.ascontiguousarray(np.repeat(np.repeat(blocks, 3, axis=0), 5, axis=1)[: size[0], : size[1]])


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_modules_of_the_viewer(folder: Path, path: Path) -> None:
    if shutil.which("node") is None:
        assert "CI" not in os.environ, "CI must have Node.js"
        pytest.skip("Node.js is not installed")

    run = subprocess.run(["node", "--test", path.name], cwd=folder, capture_output=True, text=True, timeout=60)

    assert run.returncode == 0, run.stdout + run.stderr
