"""A recut of the embedded model's logits equals a fresh job, in 24 settings on five photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from shared.jobs.parameters import SegmentParameters, Subtask
from tests.support.recut_grid import FLOOR, GRID, open_photos
from worker.engine.execution_plan import ExecutionOptions
from worker.engine.loader import load_segmenter
from worker.engine.mask2former.segmenter import Mask2FormerSegmenter
from worker.engine.postprocessing.types import Budget
from worker.engine.recut import recut
from worker.recut.file import RecutData
from worker.recut.kept import KeepRule
from worker.segmenter import Prepared, Segmentation, prepare_image

PHOTOS = open_photos()
pytestmark = pytest.mark.usefixtures("one_thread")

MAX_BYTES = 8 * 10**6
MAX_FILE_BYTES = 10**6


def refuse(source: str, _into: Path) -> None:
    raise AssertionError(f"{source} should not be fetched")


@pytest.fixture(scope="module", params=["exact"])
def segmenter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mask2FormerSegmenter:
    loaded = load_segmenter(
        "embedded",
        public_id="maskmill/test",
        device="cpu",
        cache=tmp_path_factory.mktemp("cache"),
        download=refuse,
        options=ExecutionOptions(request.param),
    )
    assert isinstance(loaded, Mask2FormerSegmenter)
    return loaded


def prepare(segmenter: Mask2FormerSegmenter, name: str, parameters: SegmentParameters, **rule: bool) -> Prepared:
    prepared = prepare_image(segmenter, PHOTOS[name], parameters)
    return replace(prepared, keep=KeepRule(FLOOR, MAX_BYTES, **rule))


def keep(segmenter: Mask2FormerSegmenter, name: str, **rule: bool) -> tuple[Segmentation, bytes]:
    """Run a job; return its segmentation, and the file of its recut."""
    prepared = prepare(segmenter, name, SegmentParameters(), **rule)
    [job] = segmenter.segment([prepared])
    assert isinstance(job, Segmentation) and job.kept and segmenter.recut_model
    size = prepared.height, prepared.width
    return job, RecutData("m", "r", *size, segmenter.recut_model, job.kept).to_bytes()


def assert_equal(result: Segmentation, fresh: Segmentation) -> None:
    assert result.segments == fresh.segments
    assert np.array_equal(result.label_map, fresh.label_map)


@pytest.mark.parametrize(
    ("segmenter", "name"), [*(("exact", name) for name in PHOTOS), ("fast", "rocket")], indirect=["segmenter"]
)
@torch.inference_mode()
def test_a_recut_equals_a_fresh_job_bit_for_bit(segmenter: Mask2FormerSegmenter, name: str) -> None:
    job, content = keep(segmenter, name)
    data = RecutData.from_bytes(content)
    size = data.height, data.width
    # The forward pass does not depend on the parameters: the grid's jobs share one.
    [logits] = segmenter._compute_logits([prepare(segmenter, name, SegmentParameters())])

    assert len(content) < MAX_FILE_BYTES
    assert_equal(recut(data, SegmentParameters(), size, Budget()), job)
    for parameters in GRID:
        fresh = segmenter._postprocess(logits, prepare(segmenter, name, parameters))
        assert isinstance(fresh, Segmentation)
        assert_equal(recut(data, parameters, size, Budget()), fresh)


def test_a_semantic_recut_equals_a_fresh_job_if_all_queries_were_kept(segmenter: Mask2FormerSegmenter) -> None:
    _, content = keep(segmenter, "rocket", keeps_all=True)
    data, parameters = RecutData.from_bytes(content), SegmentParameters(subtask=Subtask.SEMANTIC)

    [fresh] = segmenter.segment([prepare(segmenter, "rocket", parameters)])

    assert isinstance(fresh, Segmentation)
    assert_equal(recut(data, parameters, (data.height, data.width), Budget()), fresh)
