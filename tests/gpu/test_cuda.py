"""Tests that need a GPU:  python -m pytest -m gpu"""

from pathlib import Path

import pytest
import torch

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench.segmentation import label_ids
from tests.support.images import sample_images
from worker.engine.execution_plan import ExecutionOptions, plan_execution
from worker.engine.loader import load_segmenter
from worker.segmenter import Segmentation, Segmenter, prepare_image

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# For each dtype, the share of the pixels of all images whose label equals the CPU's.
# The scores of the small embedded model are often close to each other, so bfloat16 changes more of its pixels than of a
# large model's.
MIN_EQUAL_SHARE = {"float32": 0.999, "bfloat16": 0.97}


def load_embedded(device: str, options: ExecutionOptions) -> Segmenter:
    def refuse(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} should not be fetched")

    return load_segmenter(
        "embedded", public_id="maskmill/test", device=device, cache=Path(), download=refuse, options=options
    )


def segment_images(segmenter: Segmenter, parameters: SegmentParameters) -> list[Segmentation]:
    results = segmenter.segment([prepare_image(segmenter, image, parameters) for image in sample_images().values()])
    failures = [result for result in results if isinstance(result, MaskmillError)]
    assert not failures
    return [result for result in results if isinstance(result, Segmentation)]


def assert_alike(ours: list[Segmentation], theirs: list[Segmentation], min_equal_share: float) -> None:
    pairs = list(zip(ours, theirs, strict=True))
    equal = sum(int((label_ids(one) == label_ids(other)).sum()) for one, other in pairs)
    assert equal / sum(one.label_map.size for one in ours) >= min_equal_share


@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.SEMANTIC])
@pytest.mark.parametrize("forward", ["exact", "fast"])
def test_float32_gives_the_labels_of_the_cpu(subtask: Subtask, forward: str) -> None:
    parameters = SegmentParameters(threshold=0.5, subtask=subtask)

    ours = segment_images(
        load_embedded("cuda:0", ExecutionOptions(forward, dtype="float32" if forward == "fast" else "auto")), parameters
    )

    assert_alike(
        ours, segment_images(load_embedded("cpu", ExecutionOptions("exact")), parameters), MIN_EQUAL_SHARE["float32"]
    )


def test_bfloat16_gives_nearly_the_labels_of_the_cpu() -> None:
    parameters = SegmentParameters(threshold=0.5)

    ours = segment_images(load_embedded("cuda:0", ExecutionOptions("fast", dtype="bfloat16")), parameters)

    assert_alike(
        ours, segment_images(load_embedded("cpu", ExecutionOptions("exact")), parameters), MIN_EQUAL_SHARE["bfloat16"]
    )


@pytest.mark.timeout(600)
def test_a_compiled_forward_pass_gives_the_labels_of_the_eager_one() -> None:
    parameters = SegmentParameters(threshold=0.5)
    compiled = load_embedded("cuda:0", ExecutionOptions("fast", dtype="float32", is_compiled=True, max_images=9))
    compiled.warm_up()

    ours = segment_images(compiled, parameters)

    assert_alike(
        ours,
        segment_images(load_embedded("cuda:0", ExecutionOptions("fast", dtype="float32")), parameters),
        MIN_EQUAL_SHARE["float32"],
    )


def test_the_default_on_a_gpu_is_the_fast_path() -> None:
    plan = plan_execution(ExecutionOptions(), "cuda:0")

    assert plan.is_fast
    assert plan.band_bytes == 2**31
