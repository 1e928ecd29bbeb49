"""A service under test: the one-machine stack whose worker is started again with other settings."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from PIL import Image

from deploy.local.gateway_client import GatewayClient, GatewayRefused
from deploy.local.stack import Stack
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.store import JobStore, open_job_store
from shared.redis_client import connect
from shared.settings import Settings
from shared.worker_registry import public_id
from tests.bench.engine import IMAGE_SIZE
from tests.bench.gpu_service.gpu_usage import GpuUsage
from tests.bench.gpu_service.load_process import LoadTask
from tests.bench.gpu_service.workload import PARAMETERS, ServiceWorkload, Variant
from tests.bench.measurement import print_progress
from tests.bench.reference import SWIN_LARGE, SWIN_TOY, build_random_model, sample_images
from tests.support.images import jpeg
from tests.support.polling import wait_until
from worker.runtime.sizing import count_cores

# Of the gateway; more than a burst ever has.
MAX_QUEUED = 50_000


@dataclass(frozen=True, slots=True)
class ServiceUnderTest:
    """A running stack, what observes it, and the JPEG files that are sent to it."""

    stack: Stack
    jobs: JobStore
    gpu: GpuUsage
    images: Path

    @property
    def model(self) -> str:
        return public_id(self.stack.model)

    def backlog(self) -> int:
        """Return how many jobs are queued."""
        return self.jobs.queues.backlog(queue_name(self.model, Priority.NORMAL))

    def count_unfinished(self) -> int:
        """Return how many jobs are queued or running."""
        return self.backlog() + self.jobs.queues.running_count()

    def job_task(self, formats: str, **limits: float) -> LoadTask:
        """Return the task that submits jobs; several threads, because the gateway answers in milliseconds."""
        path = f"/v1/jobs?formats={formats}&{PARAMETERS}"
        return LoadTask(self.stack.port, path, str(self.images), threads=4 * min(4, count_cores()), **limits)

    def synchronous_task(self, clients: int, seconds: float) -> LoadTask:
        """Return the task of some synchronous callers."""
        path = f"/models/{self.model}?{PARAMETERS}"
        return LoadTask(self.stack.port, path, str(self.images), threads=clients, max_seconds=seconds)


@contextmanager
def open_service(workload: ServiceWorkload, first: Variant) -> Iterator[ServiceUnderTest]:
    """Save a model with random weights, and start the stack with it; the worker has the settings of `first`.

    Raises:
        NotReady: a process did not become ready.
    """
    with tempfile.TemporaryDirectory(prefix="maskmill-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        model = save_model(workload, folder)
        images = save_images(folder / "images")
        stack = Stack(folder / "data", model=str(model), environ=build_environ(os.environ))
        stack.worker.env |= first.environ(workload)
        settings = Settings(redis_url=stack.valkey.url)
        with stack, GpuUsage() as gpu:
            print_progress(f"gpu_service: starting the stack, {first}")
            try:
                stack.start()
                yield ServiceUnderTest(stack, open_job_store(connect(settings), settings), gpu, images)
            finally:
                copy_logs(stack, workload.out)


def copy_logs(stack: Stack, out: Path | None) -> None:
    """Copy the logs of the processes that were started."""
    for process in stack.processes:
        if out and process.log.exists():
            shutil.copy(process.log, out)


def build_environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without settings of another service, and with a gateway that bounds nothing."""
    others = {name: value for name, value in environ.items() if not name.startswith("MASKMILL_")}
    return others | {
        "MASKMILL_MAX_QUEUED": str(MAX_QUEUED),
        "MASKMILL_PROCESSES": str(max(2, count_cores() // 4)),
    }


def save_model(workload: ServiceWorkload, folder: Path) -> Path:
    """Save a network with random weights and its image processor, as the worker loads them."""
    architecture = SWIN_TOY if workload.is_tiny else SWIN_LARGE
    print_progress(f"gpu_service: building {architecture.name}")
    model = build_random_model(architecture)
    model.network.save_pretrained(folder / architecture.name)
    model.processor.save_pretrained(folder / architecture.name)
    return folder / architecture.name


def save_images(folder: Path) -> Path:
    """Save 16 different JPEG files of IMAGE_SIZE."""
    folder.mkdir()
    flips = (None, *Image.Transpose)[:4]
    for number, (image, flip) in enumerate(product(sample_images(), flips)):
        turned = image if flip is None else image.transpose(flip)
        (folder / f"{number:02}.jpg").write_bytes(jpeg(turned.resize(IMAGE_SIZE, Image.Resampling.BICUBIC)))
    return folder


def restart_worker(stack: Stack, settings: Mapping[str, str], *, deadline_seconds: float) -> None:
    """Start the worker again with other settings, and wait until it takes jobs.

    Raises:
        NotReady: it ended, or the deadline passed.
    """
    worker, probe = stack.worker, GatewayClient(stack.ports.probe)
    worker.stop()
    worker.env |= settings
    worker.start()

    def is_ready() -> bool:
        worker.check_alive()
        try:
            return probe.request("GET", "/readyz").is_ok
        except GatewayRefused:
            return False

    wait_until(is_ready, "the worker's readiness", seconds=deadline_seconds, poll_interval_seconds=0.1)
