"""Files as cameras, phones, scanners and programs write them: right masks or a refusal that says why, on both paths."""

from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageOps

from deploy.local.stack import Stack
from tests.real_files.files import CLOSE, RealFile, Refused
from tests.real_files.photos import grey_twin, portrait
from tests.real_files.runner import Service, Twins, compare, find_difference_of_paths, find_fault
from tests.real_files.table import FILES

MIN_FILES = 150
SERVED = {name: one for name, one in FILES.items() if not one.is_variant}
MAX_SHARE_OF_WRONG_PIXELS = 0.96


@pytest.fixture(scope="module")
def service(stack: Stack) -> Service:
    return Service(stack.url)


@pytest.fixture(scope="module")
def twins(service: Service) -> Twins:
    return Twins(service)


def test_there_are_enough_files() -> None:
    assert len(SERVED) >= MIN_FILES


@pytest.mark.parametrize("file", SERVED.values(), ids=list(SERVED))
def test_a_real_file_has_its_outcome_on_both_paths(service: Service, twins: Twins, file: RealFile) -> None:
    data = file.build()
    wait_for_job = service.submit(data)

    synchronous, job = service.segment(data), wait_for_job()

    assert find_fault(file.expected, synchronous, twins) is None
    assert find_fault(file.expected, job, twins) is None
    if isinstance(file.expected, Refused):
        assert find_difference_of_paths(synchronous, job) is None


def swap_channels(image: Image.Image) -> Image.Image:
    return Image.merge("RGB", image.split()[::-1])


def clamp(image: Image.Image) -> Image.Image:
    """Return what becomes of values of 10 bits that are read as if they were of 8."""
    return image.point(lambda value: min(255, 4 * value))


def scramble_planes(image: Image.Image) -> Image.Image:
    """Return an image whose planes were read as pixels."""
    planes = np.moveaxis(np.asarray(image), 2, 0)
    return Image.fromarray(np.ascontiguousarray(planes).reshape(image.height, image.width, 3))


@pytest.mark.parametrize(
    "damage", [swap_channels, clamp, ImageOps.invert, ImageOps.mirror, ImageOps.flip, scramble_planes]
)
def test_wrong_pixels_are_noticed(twins: Twins, damage: Callable[[Image.Image], Image.Image]) -> None:
    for photo in (portrait(), grey_twin()):
        damaged = damage(photo)
        share = compare(twins.segment(damaged), twins.segment(photo))
        assert share < MAX_SHARE_OF_WRONG_PIXELS or damaged == photo


def test_noise_that_nobody_sees_is_not(twins: Twins) -> None:
    for photo in (portrait(), grey_twin()):
        noisy = photo.point(lambda value: value ^ 1)
        assert compare(twins.segment(noisy), twins.segment(photo)) >= CLOSE
