"""Policy and learned cost together, on simulated devices with a backlog: throughput, and how long calls wait."""

import random
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.jobs.model import Priority
from worker.batching.cost import LearnedCost
from worker.batching.policy import BatchLimits, plan_batch

LIMITS = BatchLimits(max_images=16, max_pixels=48_000_000, max_interactive_wait_seconds=0.25)
SMALL, LARGE = 307_200, 12_000_000
# Batches until the cost of a device without noise is known.
LEARNING = 40


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    pixels: int
    priority: Priority
    enqueued_at: float
    deadline: float | None = None
    is_alone: bool = False

    def is_wanted(self) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Device:
    """Takes fixed + image * images + megapixel * megapixels seconds, or for padded images: those of the next power."""

    fixed: float
    image: float
    megapixel: float = 0.0
    is_padded: bool = False
    noise: float = 0.0

    def get_seconds(self, images: int, pixels: int) -> float:
        padded = 1 << (images - 1).bit_length() if self.is_padded else images
        return self.fixed + self.image * padded + self.megapixel * pixels / 1e6


GPU = Device(0.02, 0.002)
CPU = Device(0.001, 0.11)
FAST_CPU = Device(0.03, 0.06)
DEVICES = {
    "gpu": GPU,
    "compiled": Device(0.02, 0.004, is_padded=True),
    "noisy gpu": Device(0.02, 0.002, noise=0.1),
    "cpu": CPU,
    "noisy cpu": Device(0.001, 0.11, noise=0.2),
    "fast cpu": FAST_CPU,
    "swin-l on a cpu": Device(0.0, 5.0),
}


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch that has left the simulated device.

    latencies: seconds from arrival to result, of the interactive images.
    """

    images: tuple[Image, ...]
    seconds: float
    latencies: tuple[float, ...]


@dataclass(slots=True)
class Simulation:
    """A device with `backlog` normal images in its queue at any time, and interactive images at random times."""

    device: Device
    backlog: int = 32
    seconds_between_calls: float | None = None
    pixels: tuple[int, ...] = (SMALL,)
    source: random.Random = field(default_factory=lambda: random.Random(1))
    now: float = 0.0
    next_call_at: float = 0.0
    queue: list[Image] = field(default_factory=list)
    cost: LearnedCost = field(default_factory=LearnedCost)

    def run(self, batches: int) -> Iterator[Batch]:
        for _ in range(batches):
            self._fill_queue()
            yield self._run_batch()

    def _fill_queue(self) -> None:
        while self.seconds_between_calls and self.next_call_at <= self.now:
            self._add(Priority.INTERACTIVE, self.next_call_at)
            self.next_call_at += self.source.expovariate(1 / self.seconds_between_calls)
        while sum(image.priority is Priority.NORMAL for image in self.queue) < self.backlog:
            self._add(Priority.NORMAL, self.now)

    def _add(self, priority: Priority, enqueued_at: float) -> None:
        self.queue.append(Image(self.source.choice(self.pixels), priority, enqueued_at))

    def _run_batch(self) -> Batch:
        estimate = self.cost.estimate
        plan = plan_batch(self.queue, now=self.now, idle_since=self.now, limits=LIMITS, cost=estimate)
        self.queue = list(plan.waiting)
        size, pixels = len(plan.batch), sum(image.pixels for image in plan.batch)
        seconds = self.device.get_seconds(size, pixels) * self.source.lognormvariate(0, self.device.noise)
        self.now += seconds
        self.cost.observe(images=size, pixels=pixels, seconds=seconds)
        calls = [image for image in plan.batch if image.priority is Priority.INTERACTIVE]
        return Batch(plan.batch, seconds, tuple(self.now - image.enqueued_at for image in calls))


def get_throughput(batches: list[Batch]) -> float:
    return sum(len(batch.images) for batch in batches) / sum(batch.seconds for batch in batches)


def get_best_throughput(device: Device) -> float:
    """Return the images per second of the best batch size that the limits allow, but for those close to the bound."""
    bound = 0.9 * LIMITS.max_interactive_wait_seconds
    return max(
        size / seconds
        for size in range(1, LIMITS.max_images + 1)
        if (seconds := device.get_seconds(size, SMALL * size)) <= bound or size == 1
    )


@pytest.mark.parametrize("name", DEVICES)
def test_the_throughput_of_a_backlog_is_within_five_percent_of_the_best_batch_size(name: str) -> None:
    batches = list(Simulation(DEVICES[name]).run(600))

    # Of a duration with noise, the mean is higher than the median.
    mean_noise = statistics.mean(random.Random(2).lognormvariate(0, DEVICES[name].noise) for _ in range(1000))
    assert get_throughput(batches) >= 0.95 * get_best_throughput(DEVICES[name]) / mean_noise


@pytest.mark.parametrize(
    ("device", "seconds_between_calls", "idle_seconds"),
    [(GPU, 0.2, 0.022), (CPU, 1.0, 0.111), (FAST_CPU, 1.0, 0.09), (Device(0.0, 5.0), 60.0, 5.0)],
)
def test_a_call_behind_a_backlog_waits_for_one_batch(
    device: Device, seconds_between_calls: float, idle_seconds: float
) -> None:
    simulation = Simulation(device, seconds_between_calls=seconds_between_calls)

    latencies = [latency for batch in simulation.run(800) for latency in batch.latencies]

    bound = max(LIMITS.max_interactive_wait_seconds, idle_seconds)
    assert statistics.median(latencies) <= max(2.5 * idle_seconds, bound)
    assert statistics.quantiles(latencies, n=20)[-1] <= max(4 * idle_seconds, 1.5 * bound)


def test_calls_cost_a_backlog_little_throughput() -> None:
    def get_rate(device: Device, seconds_between_calls: float | None) -> float:
        return get_throughput(list(Simulation(device, seconds_between_calls=seconds_between_calls).run(800)))

    for device in (GPU, CPU, FAST_CPU):
        assert get_rate(device, 1.0) >= 0.95 * get_rate(device, None)


devices = st.builds(Device, fixed=st.floats(0.0005, 1), image=st.floats(0.0005, 1), megapixel=st.floats(0, 0.05))


@settings(max_examples=10)
@given(device=devices)
def test_learned_batches_of_normal_images_are_rarely_longer_than_the_bound_unless_of_one_image(device: Device) -> None:
    simulation = Simulation(device, backlog=16, pixels=(SMALL, SMALL, LARGE))

    batches = list(simulation.run(4 * LEARNING))[LEARNING:]

    # Longer ones are those that are run to learn their cost.
    bound = 1.3 * LIMITS.max_interactive_wait_seconds
    longer = [batch for batch in batches if batch.seconds > bound and len(batch.images) > 1]
    assert len(longer) <= 0.05 * len(batches)


@settings(max_examples=10)
@given(device=devices)
def test_the_throughput_on_any_device_is_within_five_percent_of_the_best_batch_size(device: Device) -> None:
    batches = list(Simulation(device, backlog=16).run(4 * LEARNING))[LEARNING:]

    assert get_throughput(batches) >= 0.95 * get_best_throughput(device)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_a_device_that_changes_its_speed_is_followed(factor: float) -> None:
    simulation = Simulation(GPU)
    list(simulation.run(2 * LEARNING))
    simulation.device = Device(factor * GPU.fixed, factor * GPU.image)

    batches = list(simulation.run(4 * LEARNING))[LEARNING:]

    assert get_throughput(batches) >= 0.95 * get_best_throughput(simulation.device)
    assert max(batch.seconds for batch in batches) <= 1.1 * LIMITS.max_interactive_wait_seconds


@pytest.mark.parametrize("name", DEVICES)
def test_no_image_of_a_backlog_starves_under_continuous_calls(name: str) -> None:
    device = DEVICES[name]
    simulation = Simulation(device, seconds_between_calls=device.get_seconds(1, SMALL) / 2)
    list(simulation.run(50))
    oldest = next(image for image in simulation.queue if image.priority is Priority.NORMAL)

    for batch in simulation.run(800):
        if oldest in batch.images:
            return

    pytest.fail("The oldest normal image was never served")
