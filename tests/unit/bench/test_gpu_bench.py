"""A smoke test of the GPU benchmark, on the CPU with a toy model."""

import json

import pytest

from tests.bench import gpu


def test_every_kind_of_measurement_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--tiny"]) == 0

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    benches = {line["bench"] for line in lines}
    assert benches == {"gpu.matmul", "gpu.forward", "gpu.whole", "gpu.agreement"}
    variants = {line["settings"]["way"] for line in lines if line["bench"] == "gpu.whole"}
    assert variants == {"exact, float32", "fast, float32", "fast, bfloat16", "pipeline, float32"}
    assert all(line["figures"]["images_per_second"] > 0 for line in lines if line["bench"] == "gpu.whole")
    fast = next(line for line in lines if line["bench"] == "gpu.agreement")
    assert fast["figures"]["equal_pixels"] > 0.99


def test_measurements_left_out_for_lack_of_time_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    gpu.main(["--device", "cpu", "--tiny", "--minutes", "0"])

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "gpu.whole" not in {line["bench"] for line in lines}
    assert [line["settings"]["batch"] for line in lines if line["bench"] == "gpu.left_out"] == [1, 2] * 4
