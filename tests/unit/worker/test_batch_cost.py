"""What the scheduler learns of the cost of batches, from devices whose cost is known."""

import math
import random
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.batching.cost import UNKNOWN_COST, BatchCost, LearnedCost, update_cost

MEGAPIXEL = 1_000_000
Device = Callable[[int, float], float]  # (images, megapixels) -> seconds


def use_gpu(images: int, megapixels: float) -> float:
    return 0.02 + 0.002 * images + 0.001 * megapixels


def use_cpu(images: int, megapixels: float) -> float:
    return 0.1 * images + 0.025 * megapixels


def learn(device: Device, sizes: Iterable[tuple[int, float]], *, cost: BatchCost = UNKNOWN_COST) -> BatchCost:
    """Return the estimate after batches of the given images and megapixels."""
    for images, megapixels in sizes:
        seconds = device(images, megapixels)
        cost = update_cost(cost, images=images, pixels=int(MEGAPIXEL * megapixels), seconds=seconds)
    return cost


def draw_sizes(count: int, *, max_images: int = 16, seed: int = 0) -> list[tuple[int, float]]:
    source = random.Random(seed)
    numbers = [source.randint(1, max_images) for _ in range(count)]
    return [(number, sum(source.choice([0.3, 2.0, 12.0]) for _ in range(number))) for number in numbers]


def test_nothing_is_known_without_a_sample() -> None:
    assert UNKNOWN_COST.deviation_seconds(1, MEGAPIXEL) == math.inf
    assert UNKNOWN_COST.fixed_deviation_seconds == math.inf


def test_after_one_sample_its_own_size_is_known_best() -> None:
    cost = learn(use_gpu, [(4, 4.0)])

    assert cost.seconds(4, 4 * MEGAPIXEL) == pytest.approx(use_gpu(4, 4.0))
    assert cost.deviation_seconds(4, 4 * MEGAPIXEL) < cost.deviation_seconds(8, 8 * MEGAPIXEL)


@pytest.mark.parametrize("device", [use_gpu, use_cpu])
def test_the_parts_are_learned_from_batches_of_different_sizes(device: Device) -> None:
    cost = learn(device, draw_sizes(100))

    for images, megapixels in [(1, 0.3), (8, 2.4), (16, 4.8), (1, 12.0), (4, 48.0)]:
        assert cost.seconds(images, int(MEGAPIXEL * megapixels)) == pytest.approx(device(images, megapixels), rel=0.1)


@pytest.mark.parametrize("device", [use_gpu, use_cpu])
def test_noise_is_averaged_and_known(device: Device) -> None:
    source = random.Random(1)

    cost = learn(lambda *size: device(*size) * source.lognormvariate(0, 0.1), draw_sizes(300))

    assert cost.seconds(8, 8 * MEGAPIXEL) == pytest.approx(device(8, 8.0), rel=0.15)
    assert 0.05 < cost.noise < 0.2


def test_a_slow_first_batch_is_forgotten() -> None:
    slow = learn(lambda *size: 50 * use_gpu(*size), [(1, 0.3)])

    cost = learn(use_gpu, draw_sizes(30), cost=slow)

    assert cost.seconds(8, 8 * MEGAPIXEL) == pytest.approx(use_gpu(8, 8.0), rel=0.2)


def test_one_slow_batch_changes_little() -> None:
    before = learn(use_gpu, draw_sizes(200))

    after = learn(lambda *size: 100 * use_gpu(*size), [(16, 4.8)], cost=before)

    assert after.seconds(16, 4_800_000) <= 2 * before.seconds(16, 4_800_000)
    after = learn(use_gpu, [(16, 4.8)] * 5, cost=after)
    assert after.seconds(16, 4_800_000) == pytest.approx(before.seconds(16, 4_800_000), rel=0.25)


@pytest.mark.parametrize("factor", [0.2, 4.0])
def test_a_change_of_speed_is_learned_for_sizes_that_were_not_run_since(factor: float) -> None:
    before = learn(use_gpu, draw_sizes(200))

    after = learn(lambda *size: factor * use_gpu(*size), [(16, 4.8)] * 20, cost=before)

    assert after.seconds(1, 300_000) == pytest.approx(factor * use_gpu(1, 0.3), rel=0.6)


def test_sizes_that_are_not_run_become_uncertain_again() -> None:
    learned = learn(use_gpu, draw_sizes(200))

    later = learn(use_gpu, [(16, 4.8)] * 2000, cost=learned)

    assert later.fixed_deviation_seconds > 2 * learned.fixed_deviation_seconds


def test_learned_cost_starts_from_nothing_and_keeps_its_estimate() -> None:
    learned = LearnedCost()
    assert learned.estimate is UNKNOWN_COST

    learned.observe(images=2, pixels=MEGAPIXEL, seconds=0.2)

    assert learned.estimate == update_cost(UNKNOWN_COST, images=2, pixels=MEGAPIXEL, seconds=0.2)


samples = st.lists(
    st.tuples(st.integers(1, 64), st.integers(0, 200_000_000), st.floats(0, 1000)), min_size=1, max_size=30
)


@given(batches=samples)
def test_an_estimate_is_finite_and_never_negative(batches: list[tuple[int, int, float]]) -> None:
    cost = UNKNOWN_COST
    for images, pixels, seconds in batches:
        cost = update_cost(cost, images=images, pixels=pixels, seconds=seconds)

        assert all(0 <= part < math.inf for part in cost.parts)
        assert all(cost.covariance[index][index] >= 0 for index in range(3))
        assert 0 <= cost.deviation_seconds(images, pixels) < math.inf
        assert 0 < cost.noise < math.inf


@given(batches=samples, images=st.integers(1, 16), pixels=st.integers(1, 10_000_000))
def test_more_images_never_take_less_time(batches: list[tuple[int, int, float]], images: int, pixels: int) -> None:
    cost = UNKNOWN_COST
    for sample_images, sample_pixels, seconds in batches:
        cost = update_cost(cost, images=sample_images, pixels=sample_pixels, seconds=seconds)

    assert cost.seconds(images, pixels) <= cost.seconds(images + 1, 2 * pixels)
