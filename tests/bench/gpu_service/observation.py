"""What the processes of a service have done so far, read at one moment; the difference of two says what limits it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from deploy.local.gateway_client import GatewayClient
from deploy.local.stack import Stack
from tests.bench.cpu_time import find_descendants, read_cpu_seconds
from worker.runtime.sizing import count_cores

# Shares from which on a part counts as fully used: no part is busy while it waits for the next piece of work.
FULL_DEVICE = 0.9
FULL_HOST = 0.8
FULL_CORES = 0.85


@dataclass(frozen=True, slots=True)
class Observation:
    """Sums since the start of the service.

    at: time.monotonic().
    cpu_seconds: CPU time by part of the service; `hosts` include their decoders.
    metrics: samples of the worker's /metrics by name, with the stage after a slash where they have one.
    """

    at: float
    cpu_seconds: Mapping[str, float]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Interval:
    """What happened between two observations."""

    start: Observation
    end: Observation

    @property
    def seconds(self) -> float:
        return self.end.at - self.start.at

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each part of the service."""
        return {part: self.end.cpu_seconds[part] - self.start.cpu_seconds[part] for part in self.end.cpu_seconds}

    def metric(self, name: str) -> float:
        """Return the increase of a metric."""
        return self.end.metrics.get(name, 0.0) - self.start.metrics.get(name, 0.0)

    def mean_batch(self) -> float | None:
        """Return the images of a batch, on average; None without a batch."""
        batches = self.metric("maskmill_batch_images_count")
        return round(self.metric("maskmill_batch_images_sum") / batches, 1) if batches else None

    def device_busy(self) -> float:
        """Return the share of time in which a batch was on the device, as the worker sees it."""
        return round(self.metric("maskmill_batch_device_seconds_sum") / self.seconds, 3)

    def stage_means_ms(self) -> dict[str, float]:
        """Return the mean duration of each stage of a job."""
        prefix = "maskmill_stage_seconds_count/"
        stages = [name.removeprefix(prefix) for name in self.end.metrics if name.startswith(prefix)]
        counts = {stage: self.metric(f"{prefix}{stage}") for stage in stages}
        return {
            stage: round(1000 * self.metric(f"maskmill_stage_seconds_sum/{stage}") / count, 1)
            for stage, count in counts.items()
            if count
        }


def observe(stack: Stack) -> Observation:
    """Read the CPU time of all processes and the worker's metrics."""
    return Observation(time.monotonic(), read_cpu_by_part(stack), read_worker_metrics(stack))


def read_cpu_by_part(stack: Stack) -> dict[str, float]:
    """Return the CPU seconds that each part of the service has used so far."""
    hosts = find_descendants(stack.worker.pid, "worker.host")
    others = {
        "gateway": stack.gateway,
        "valkey": stack.valkey,
        "steward": stack.steward,
        "object store": stack.objects,
    }
    return {
        "engine": read_cpu_seconds([stack.worker.pid], without=hosts),
        "hosts": read_cpu_seconds(hosts),
        **{part: read_cpu_seconds([process.pid]) for part, process in others.items()},
    }


def read_worker_metrics(stack: Stack) -> dict[str, float]:
    """Return the samples of the worker's /metrics that are sums, counts or totals, buckets excepted."""
    text = GatewayClient(stack.ports.probe).get("/metrics").body.decode()
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return {
        "/".join(filter(None, [sample.name, sample.labels.get("stage")])): sample.value
        for sample in samples
        if "le" not in sample.labels
    }


def describe_usage(interval: Interval, *, hosts: int, gpu_busy: float | None) -> dict[str, Any]:
    """Return how busy GPU, worker and cores were, and which of them limits the service.

    Args:
        gpu_busy: the share of time in which the GPU ran kernels; None without a GPU.
    """
    cpu = interval.cpu_seconds()
    device = interval.device_busy()
    cores_of_a_host = cpu["hosts"] / interval.seconds / hosts
    share_of_cores = sum(cpu.values()) / interval.seconds / count_cores()
    is_device_full = device >= FULL_DEVICE
    limits = {
        "the device": is_device_full and (gpu_busy is None or gpu_busy >= FULL_DEVICE),
        # A batch is always under way, but the GPU waits for the process that launches its kernels.
        "the engine's process": is_device_full and gpu_busy is not None and gpu_busy < FULL_DEVICE,
        "the host processes": cores_of_a_host >= FULL_HOST,
        "the processor's cores": share_of_cores >= FULL_CORES,
    }
    return {
        "gpu_busy": gpu_busy,
        "device_busy": device,
        "mean_batch": interval.mean_batch(),
        "cores_of_engine": round(cpu["engine"] / interval.seconds, 2),
        "cores_of_a_host": round(cores_of_a_host, 2),
        "busy_share_of_cores": round(share_of_cores, 2),
        "limited_by": ", ".join(name for name, is_full in limits.items() if is_full) or "none of these",
    }
