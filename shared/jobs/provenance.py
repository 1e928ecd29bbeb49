"""Where a result comes from, beyond its request: what ran the model, and how the image was turned."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Execution:
    """How a model is run.

    forward: kind of forward pass, `exact` or `fast`.
    dtype: in which it multiplies, such as `float32`.
    device: `cpu`, `cuda:0`, ...
    libraries: versions, by name.
    """

    forward: str = "exact"
    dtype: str = "float32"
    device: str = "cpu"
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a result was computed by.

    exif_orientation: of the image file, 1 to 8; it was turned upright by it, and 1 means not at all.
    worker: public id of the worker.
    recut_libraries: of a stored recut, the versions of what made it from the logits of the others; by name.
    """

    execution: Execution
    exif_orientation: int = 1
    worker: str = ""
    recut_libraries: Mapping[str, str] = field(default_factory=dict)
