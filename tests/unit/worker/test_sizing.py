"""How the processes, threads and shared memory of a worker follow from its settings and its machine."""

import pytest

from worker.runtime.sizing import count_hosts, count_pool_bytes, count_threads
from worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("settings", "device", "threads"),
    [({}, "cpu", 8), ({}, "cuda:0", 32), ({"max_batch_images": 4}, "cuda", 8), ({"worker_threads": 3}, "cuda", 3)],
)
def test_a_gpu_has_threads_for_two_batches(settings: dict[str, int], device: str, threads: int) -> None:
    assert count_threads(WorkerSettings(**settings), device) == threads


@pytest.mark.parametrize(
    ("settings", "device", "cores", "hosts"),
    [
        ({}, "cpu", 16, 1),
        ({}, "cuda:0", 16, 8),
        ({}, "cuda:0", 64, 8),
        ({}, "cuda:0", 1, 1),
        ({"host_processes": 3}, "cpu", 2, 3),
    ],
)
def test_a_gpu_has_one_host_for_two_cores(settings: dict[str, int], device: str, cores: int, hosts: int) -> None:
    assert count_hosts(WorkerSettings(**settings), device, cores) == hosts


def test_the_largest_image_fits_into_shared_memory() -> None:
    megapixels = 1000

    pool_bytes = count_pool_bytes(WorkerSettings(max_decode_megapixels=megapixels))

    pixels_and_wide_label_map = megapixels * 10**6 * (3 + 2)
    assert pool_bytes > pixels_and_wide_label_map
