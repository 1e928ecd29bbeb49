"""Photos and settings on which a recut is compared with a fresh job."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from PIL import Image
from skimage import data

from shared.jobs.parameters import SegmentParameters, Subtask

ROOT: Final = Path(__file__).parents[2]
FLOOR: Final = 0.05
THRESHOLDS: Final = (
    (FLOOR, 0.5, 0.5),
    (0.3, 0.3, 0.8),
    (0.5, 0.5, 0.5),
    (0.7, 0.6, 0.2),
    (0.9, 0.5, 0.5),
    (0.98, 0.9, 0.9),
)
SWITCHES: Final = (
    (Subtask.PANOPTIC, False),
    (Subtask.PANOPTIC, True),
    (Subtask.INSTANCE, False),
    (Subtask.INSTANCE, True),
)
# Of panoptic segmentation the switch is fuse_stuff, of instance segmentation strict_instance_thresholds.
GRID: Final = tuple(
    SegmentParameters(
        *thresholds,
        subtask,
        fuse_stuff=is_on and subtask is Subtask.PANOPTIC,
        strict_instance_thresholds=is_on and subtask is Subtask.INSTANCE,
    )
    for thresholds in THRESHOLDS
    for subtask, is_on in SWITCHES
)


def open_photos() -> Mapping[str, Image.Image]:
    """Return five photos, upright RGB, of a quarter of a megapixel."""
    agreement = ROOT / "worker/engine/agreement/photos"
    paths = (ROOT / "deploy/local/sample/photo.jpg", *sorted(agreement.glob("*.jpg")))
    photos = {path.stem: Image.open(path).convert("RGB") for path in paths}
    # Every pixel of a photo is compared in each setting, so a large one would only take longer.
    photos["four"] = photos["four"].resize((500, 500))
    return photos | {"coffee": Image.fromarray(data.coffee())}
