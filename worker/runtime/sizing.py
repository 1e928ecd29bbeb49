"""How many host processes and threads a worker has, and how much memory they share with the engine."""

import os

from worker.settings import WorkerSettings

# An image costs a CPU nearly the same in a batch of 8 as alone, so more at a time would only wait longer.
CPU_THREADS = 8
MAX_GPU_HOSTS = 8
# A model that prepares images itself gets all pixels, 3 bytes each; a label map has at most 2 bytes a pixel.
POOL_BYTES_PER_PIXEL = 5
MIN_POOL_BYTES = 512 * 2**20


def count_hosts(settings: WorkerSettings, device: str, cores: int) -> int:
    """Return the number of host processes: one on a CPU, whose cores the model needs; on a GPU half of the cores."""
    if settings.host_processes:
        return settings.host_processes
    return 1 if device.startswith("cpu") else max(1, min(MAX_GPU_HOSTS, cores // 2))


def count_threads(settings: WorkerSettings, device: str) -> int:
    """Return how many jobs a worker runs at a time: on a GPU two batches, one of them being decoded or stored."""
    return settings.worker_threads or (CPU_THREADS if device.startswith("cpu") else 2 * settings.max_batch_images)


def count_host_threads(settings: WorkerSettings, device: str) -> int:
    """Return the threads of one host, so that the hosts together run count_threads() jobs at a time."""
    return -(-count_threads(settings, device) // count_hosts(settings, device, count_cores()))


def count_cores() -> int:
    """Return the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_pool_bytes(settings: WorkerSettings) -> int:
    """Return the bound of the memory that one host shares with the engine; it suffices for the largest image."""
    image_bytes = int(1e6 * settings.max_decode_megapixels) * POOL_BYTES_PER_PIXEL
    return max(MIN_POOL_BYTES, image_bytes + int(1e6 * settings.max_recut_megabytes) + 2**20)
