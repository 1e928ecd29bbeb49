"""What only a GPU can show:  python -m pytest -m gpu"""

from pathlib import Path

import pytest
import torch

from shared.errors import MaskmillError
from shared.jobs.parameters import SegmentParameters, Subtask
from tests.bench.segmentation import label_ids
from tests.support.images import photos
from worker.engine.execution_plan import ExecutionOptions, plan_execution
from worker.engine.loader import load_segmenter
from worker.segmenter import Segmentation, Segmenter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

# For each way, the share of the pixels of all photos that have the label which the CPU gives them.
# The embedded model is small and often undecided, so bfloat16 tips more of its pixels than of a large model's.
LEAST_EQUAL = {"float32": 0.999, "bfloat16": 0.97}


def embedded(device: str, options: ExecutionOptions) -> Segmenter:
    def refuse(source: str, _into: Path) -> None:
        raise AssertionError(f"{source} should not be fetched")

    return load_segmenter(
        "embedded", public_id="maskmill/test", device=device, cache=Path(), download=refuse, options=options
    )


def segmented(segmenter: Segmenter, wanted: SegmentParameters) -> list[Segmentation]:
    results = segmenter.segment([segmenter.prepare(photo, wanted) for photo in photos().values()])
    failures = [result for result in results if isinstance(result, MaskmillError)]
    assert not failures
    return [result for result in results if isinstance(result, Segmentation)]


def assert_alike(ours: list[Segmentation], theirs: list[Segmentation], least: float) -> None:
    pairs = list(zip(ours, theirs, strict=True))
    equal = sum(int((label_ids(one) == label_ids(other)).sum()) for one, other in pairs)
    assert equal / sum(one.label_map.size for one in ours) >= least


@pytest.mark.parametrize("subtask", [Subtask.PANOPTIC, Subtask.SEMANTIC])
@pytest.mark.parametrize("forward", ["exact", "fast"])
def test_float32_gives_the_labels_of_the_cpu(subtask: Subtask, forward: str) -> None:
    wanted = SegmentParameters(threshold=0.5, subtask=subtask)

    ours = segmented(
        embedded("cuda:0", ExecutionOptions(forward, dtype="float32" if forward == "fast" else "auto")), wanted
    )

    assert_alike(ours, segmented(embedded("cpu", ExecutionOptions("exact")), wanted), LEAST_EQUAL["float32"])


def test_bfloat16_gives_nearly_the_labels_of_the_cpu() -> None:
    wanted = SegmentParameters(threshold=0.5)

    ours = segmented(embedded("cuda:0", ExecutionOptions("fast", dtype="bfloat16")), wanted)

    assert_alike(ours, segmented(embedded("cpu", ExecutionOptions("exact")), wanted), LEAST_EQUAL["bfloat16"])


@pytest.mark.timeout(600)
def test_a_compiled_pass_gives_the_labels_of_the_pass_as_it_is() -> None:
    wanted = SegmentParameters(threshold=0.5)
    compiled = embedded("cuda:0", ExecutionOptions("fast", dtype="float32", compiles=True, max_images=9))
    compiled.warm_up()

    ours = segmented(compiled, wanted)

    assert_alike(
        ours, segmented(embedded("cuda:0", ExecutionOptions("fast", dtype="float32")), wanted), LEAST_EQUAL["float32"]
    )


def test_a_gpu_takes_the_fast_pass_by_itself() -> None:
    chosen = plan_execution(ExecutionOptions(), "cuda:0")

    assert chosen.is_fast
    assert chosen.band_bytes == 2**31
