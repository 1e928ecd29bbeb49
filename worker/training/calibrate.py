"""Make a trained model as sure of its classes as is useful, so that the usual thresholds fit it.

    python -m worker.training.calibrate --model DIR --factor 2 --less-nothing 0.5 --out DIR

What a network learns from a hundred photos makes it too timid about others.  Which factor and shift help is tried with
tests.evaluation.panoptic_quality on photos that were kept back; here they become part of the class predictor's weights.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.training.network import OF_CLASSES

KEPT: Final = ("config.json", "preprocessor_config.json")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Scale and shift the scores of a model.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--factor", type=float, default=1.0, help="by which logits are multiplied")
    parser.add_argument("--less-nothing", type=float, default=0.0, help="taken off the logit of nothing afterwards")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in KEPT:
        if options.out.resolve() != options.model.resolve():
            shutil.copy(options.model / name, options.out / name)
    weight, bias = OF_CLASSES
    tensors = load_file(options.model / "model.safetensors")
    tensors[weight] = scaled(tensors[weight], options.factor)
    tensors[bias] = scaled(tensors[bias], options.factor, options.less_nothing)
    save_file(tensors, options.out / "model.safetensors", metadata={"format": "pt"})


def scaled(values: Tensor, factor: float, less_nothing: float = 0.0) -> Tensor:
    """(classes + 1, ...) -> the same, of the same type; nothing is the last row."""
    changed = values.float() * factor
    changed[-1] -= less_nothing
    return changed.to(values)


if __name__ == "__main__":
    main()
