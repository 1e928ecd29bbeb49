"""Segment the bundled photos in two ways, and measure how far the results agree."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from PIL import Image

from shared.errors import MaskmillError
from shared.images.opening import fit_size
from shared.jobs.parameters import SegmentParameters, Subtask
from worker.engine.agreement.comparison import Agreement, compare_labels, compare_segmentations
from worker.segmenter import MIN_DECODE_SCALE, Resize, Segmentation, Segmenter, prepare_image

PHOTOS: Final = Path(__file__).parent / "photos"
# Well below the default of 0.9, so that more segments are compared.
THRESHOLD: Final = 0.5
PANOPTIC: Final = SegmentParameters(threshold=THRESHOLD, subtask=Subtask.PANOPTIC)
# It has no thresholds: it compares all pixels even if a model finds none of its segments on the photos.
SEMANTIC: Final = SegmentParameters(subtask=Subtask.SEMANTIC)
# Label maps are compared at no more than this many pixels a side; larger ones take longer and show the same.
MAX_MAP_SIDE: Final = 768


def list_photos() -> Sequence[Path]:
    return sorted(PHOTOS.glob("*.jpg"))


def measure_forward(fast: Segmenter, exact: Segmenter) -> Agreement:
    """Compare two segmenters of one model on all photos.

    Raises:
        MaskmillError: one of them fails on a photo.
    """
    return Agreement.merge(compare_on_photo(fast, exact, path) for path in list_photos())


def compare_on_photo(fast: Segmenter, exact: Segmenter, path: Path) -> Agreement:
    image = open_photo(path)
    size = fit_size(image.size, MAX_MAP_SIDE)
    return compare_results(*(segment_photo(one, image, size) for one in (fast, exact)))


def measure_scaled_decoding(segmenter: Segmenter, resize: Resize) -> Agreement | None:
    """Compare photos that libjpeg decodes at a fraction of their size with the same photos decoded whole.

    Args:
        resize: how every image is resized for the segmenter.

    Returns:
        None if no photo is large enough for that.

    Raises:
        MaskmillError: the segmenter fails on a photo.
    """
    parts = list(compare_scaled_photos(segmenter, (resize.width, resize.height)))
    return Agreement.merge(parts) if parts else None


def compare_scaled_photos(segmenter: Segmenter, input_size: tuple[int, int]) -> Iterator[Agreement]:
    for path in list_photos():
        whole, scaled = open_photo(path), open_photo(path, input_size)
        if scaled.size != whole.size:
            size = fit_size(whole.size, MAX_MAP_SIDE)
            yield compare_results(*(segment_photo(segmenter, one, size) for one in (scaled, whole)))


def open_photo(path: Path, input_size: tuple[int, int] | None = None) -> Image.Image:
    """Decode a photo as RGB; for an input size only to MIN_DECODE_SCALE times that size, if the photo is larger."""
    with Image.open(path) as image:
        if input_size is not None:
            width, height = input_size
            image.draft("RGB", (MIN_DECODE_SCALE * width, MIN_DECODE_SCALE * height))
        return image.convert("RGB")


def segment_photo(segmenter: Segmenter, image: Image.Image, size: tuple[int, int]) -> list[Segmentation]:
    """Segment an image as PANOPTIC and as SEMANTIC, with label maps of `size`, (width, height).

    Raises:
        MaskmillError: it cannot be segmented.
    """
    width, height = size
    results = segmenter.segment(
        [
            replace(prepare_image(segmenter, image, parameters), width=width, height=height)
            for parameters in (PANOPTIC, SEMANTIC)
        ]
    )
    return [unwrap(result) for result in results]


def unwrap(result: Segmentation | MaskmillError) -> Segmentation:
    if isinstance(result, MaskmillError):
        raise result
    return result


def compare_results(ours: Sequence[Segmentation], reference: Sequence[Segmentation]) -> Agreement:
    """Compare the panoptic and the semantic result of one image."""
    return Agreement.merge(
        [
            compare_segmentations(ours[0], reference[0], threshold=THRESHOLD),
            compare_labels(ours[1], reference[1]),
        ]
    )
