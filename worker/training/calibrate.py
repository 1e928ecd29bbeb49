"""Scale the class logits of a trained model, so that the usual score thresholds fit it.

    python -m worker.training.calibrate --model DIR --factor 4 --less-nothing 7.8 --out DIR

A network that is trained on few images gives scores that are too low on others: the shift makes the usual threshold a
good one.  The factor makes scores steeper, so that other thresholds are not much worse.  Both are chosen with
tests.evaluation.report on images for choices; this command writes them into the class predictor.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from safetensors.torch import load_file, save_file
from torch import Tensor

from worker.training.network import CLASS_TENSORS

COPIED_FILES: Final = ("config.json", "preprocessor_config.json")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Scale and shift the class logits of a model.")
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--factor", type=float, default=1.0, help="multiplies the logits")
    parser.add_argument(
        "--less-nothing", type=float, default=0.0, help="subtracted from the no-object logit after scaling"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    for name in COPIED_FILES:
        if options.out.resolve() != options.model.resolve():
            shutil.copy(options.model / name, options.out / name)
    weight, bias = CLASS_TENSORS
    tensors = load_file(options.model / "model.safetensors")
    tensors[weight] = scale_logits(tensors[weight], options.factor)
    tensors[bias] = scale_logits(tensors[bias], options.factor, options.less_nothing)
    save_file(tensors, options.out / "model.safetensors", metadata={"format": "pt"})


def scale_logits(values: Tensor, factor: float, less_nothing: float = 0.0) -> Tensor:
    """Scale a weight or bias of shape (C + 1, ...); the last row is no object.  Shape and dtype stay."""
    scaled = values.float() * factor
    scaled[-1] -= less_nothing
    return scaled.to(values)


if __name__ == "__main__":
    main()
