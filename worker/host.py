"""Composition root of a host process:  python -m worker.host WORKER_ID NUMBER CHANNEL_FD POOL_FD POOL_BYTES

A host takes messages, claims jobs, fetches and decodes images, and renders and stores results; the engine process that
started it (worker/main.py) runs the model.  No torch here.  It ends when it is told to, or when the engine has ended.
"""

import argparse
import gc
import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Protocol, TypeVar

import structlog

from shared.broker.app import consume, make_celery
from shared.broker.queues import JobQueue
from shared.jobs.messages import queue_name
from shared.jobs.model import Priority
from shared.jobs.payloads import PayloadStore
from shared.jobs.store import JobStore, open_job_store
from shared.logs import configure_logging
from shared.memory import HOST_MAPPED_BYTES, limit_kept_memory, return_free_memory
from shared.redis_client import connect
from shared.settings import read_settings
from shared.storage.bucket import Bucket, open_bucket
from shared.store_health import open_store_health
from shared.worker_registry import public_worker_id
from worker.batching.channel import ALIVE_INTERVAL_SECONDS, Channel, ChannelClosed
from worker.batching.messages import ModelLoaded
from worker.batching.remote import RemoteBatches, RemoteObserver, wait_for_model
from worker.decoding.decoders import DecodeLimits, Decoders
from worker.pipeline.attempt import AttemptRunner, ModelInput
from worker.pipeline.cancellations import CancellationListener
from worker.pipeline.completer import Completer
from worker.pipeline.ended_inputs import InputMoves
from worker.pipeline.follow_up import FollowUp
from worker.pipeline.held_fetches import HeldFetches
from worker.pipeline.inputs import InputReader
from worker.pipeline.isolation import Isolation
from worker.pipeline.job import JobRunner
from worker.pipeline.leases import LeaseKeeper
from worker.pipeline.publication import Publication
from worker.pipeline.recut import RecutKeeper
from worker.pipeline.rendering import load_renderers
from worker.pipeline.slots import Slots, interactive_slot_count
from worker.pipeline.store_watch import StoreWatch
from worker.pipeline.task import register
from worker.pipeline.url_fetcher import build_url_fetcher
from worker.recut.kept import KeepRule
from worker.runtime.idle import IdleTrimmer
from worker.runtime.lifecycle import follow_celery
from worker.runtime.sizing import count_host_threads, count_pool_bytes
from worker.runtime.watchdog import HOST_SIGNAL
from worker.settings import WorkerSettings
from worker.slabs import SlabAllocator, SlabPool

log = structlog.get_logger()

# For jobs that lost their engine to be returned to the queue.
ENGINE_LOST_EXIT_SECONDS = 5.0
ENGINE_LOST_EXIT_CODE = 75


def main(arguments: Sequence[str]) -> int:
    """Run a host until SIGTERM, or until its engine ends."""
    limit_kept_memory(mapped_bytes=HOST_MAPPED_BYTES)
    chosen = parse_arguments(arguments)
    settings = read_settings(WorkerSettings)
    configure_logging(settings, process="worker", worker=chosen.worker_id, host=str(chosen.number))
    channel = Channel.from_fd(chosen.channel_fd)
    pool = SlabPool.attach(chosen.pool_fd, chosen.pool_bytes)
    with ExitStack() as stack:
        decoded = SlabAllocator(create_pool(settings, stack))
        decoders = start_decoders(settings, decoded, stack)
        try:
            model = wait_for_model(channel)
        except ChannelClosed:
            return 0
        exchanged = SlabAllocator(pool)
        slots = build_slots(settings, model.device)
        batches = RemoteBatches(
            channel,
            exchanged,
            allocation_timeout_seconds=settings.batch_timeout_seconds,
            # What is given back then is for other workers.
            on_lost=slots.close,
        )
        start_receiving(batches)
        engine = Engine(model, batches, decoders, (decoded, exchanged))
        serve(settings, chosen, engine, slots, RemoteObserver(channel), stack)
    # The last collections of the interpreter would take almost half a second of CPU time, in vain.
    gc.freeze()
    return 0


@dataclass(frozen=True, slots=True)
class Engine:
    """What turns an image file into a segmentation: decoders, the channel to the model, and the model's facts."""

    model: ModelLoaded
    batches: RemoteBatches
    decoders: Decoders
    pools: tuple[SlabAllocator, ...]

    def return_memory(self) -> None:
        """Give the system what allocator and pools keep of freed memory."""
        for pool in self.pools:
            pool.return_free_memory()
        return_free_memory()


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m worker.host", description="Started by worker.main.")
    parser.add_argument("worker_id")
    for name in ("number", "channel_fd", "pool_fd", "pool_bytes"):
        parser.add_argument(name, type=int)
    return parser.parse_args(arguments)


def create_pool(settings: WorkerSettings, stack: ExitStack) -> SlabPool:
    """Return new shared memory for decoded images."""
    pool = SlabPool.create(count_pool_bytes(settings))
    stack.callback(pool.close)
    return pool


def start_decoders(settings: WorkerSettings, allocator: SlabAllocator, stack: ExitStack) -> Decoders:
    """Start the processes that decode images into slabs of an allocator."""
    max_bytes = int(1e6 * settings.max_decode_megabytes)
    decoders = Decoders(allocator, DecodeLimits(max_bytes=max_bytes, max_seconds=settings.max_decode_seconds))
    decoders.start()
    stack.callback(decoders.stop)
    return decoders


def start_receiving(batches: RemoteBatches) -> None:
    """Receive the engine's replies on a thread; end this process once the engine has ended."""
    engine_pid = os.getppid()

    def receive() -> None:
        try:
            batches.receive()
        except ChannelClosed:
            log.warning("engine_lost")
        except TimeoutError:
            end_hung_engine(engine_pid)
        except Exception:
            log.exception("engine_lost")
        timer = threading.Timer(ENGINE_LOST_EXIT_SECONDS, os._exit, args=(ENGINE_LOST_EXIT_CODE,))
        timer.daemon = True
        timer.start()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=receive, name="engine-replies", daemon=True).start()


def end_hung_engine(pid: int) -> None:
    """Kill the engine process, unless it has ended: its own watchdog may be hung as well, and nothing else ends it."""
    log.critical("engine_hung", pid=pid)
    if os.getppid() == pid:
        for number in (HOST_SIGNAL, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def serve(
    settings: WorkerSettings,
    chosen: argparse.Namespace,
    engine: Engine,
    slots: Slots,
    observer: RemoteObserver,
    stack: ExitStack,
) -> None:
    """Run jobs until SIGTERM."""
    watch(observer, IdleTrimmer(lambda: engine.batches.submitted_count, engine.return_memory), stack)
    app = make_celery(settings)
    runner = build_job_runner(settings, chosen.worker_id, engine, slots, observer, stack)
    follow_celery(observer.report_ready, drain_seconds=settings.drain_seconds, give_back=runner.leases.give_back)
    register(app, runner.run_jobs)
    queues = [queue_name(engine.model.model, priority) for priority in Priority]
    consume(app, queues=queues, slots=slots, name=f"{chosen.worker_id}-{chosen.number}")


def build_slots(settings: WorkerSettings, device: str) -> Slots:
    """Return the slots for the jobs of one host."""
    regular = count_host_threads(settings, device)
    return Slots(regular, interactive_slot_count(regular))


def watch(observer: RemoteObserver, trimmer: IdleTrimmer, stack: ExitStack) -> None:
    """Tell the engine at a fixed interval that this process is not hung, and trim its memory when it is idle."""
    stopped = threading.Event()
    stack.callback(stopped.set)

    def report() -> None:
        while not stopped.wait(ALIVE_INTERVAL_SECONDS):
            observer.report_alive()
            trimmer.check()

    threading.Thread(target=report, name="watch", daemon=True).start()


def build_job_runner(
    settings: WorkerSettings,
    worker_id: str,
    engine: Engine,
    slots: Slots,
    observer: RemoteObserver,
    stack: ExitStack,
) -> JobRunner:
    """Connect the pipeline; its threads are stopped in reverse order, the leases last."""
    jobs = open_job_store(connect(settings), settings)
    bucket = open_bucket(settings, retries=settings.storage_retries)
    leases = start(LeaseKeeper(jobs, lease_seconds=settings.lease_seconds), stack)
    start(CancellationListener(connect(settings), leases.check), stack)
    stores = start(StoreWatch(open_store_health(settings), slots), stack)
    follow_up = FollowUp()
    stack.callback(follow_up.close)
    inputs = InputMoves(bucket, input_ttl_seconds=settings.input_ttl_seconds)
    inputs.start()
    stack.callback(inputs.close)
    publication = Publication(jobs, bucket, inputs, stores, settings.keep_result_seconds)
    completer = Completer(jobs, publication, stores, observer)
    queue = JobQueue(connect(settings))
    isolation = Isolation(jobs, slots, leases)
    return JobRunner(
        engine.model.model,
        jobs,
        queue,
        slots,
        leases,
        isolation,
        build_attempt_runner(settings, worker_id, engine, jobs, bucket, publication),
        completer,
        stores,
        follow_up,
        worker_id,
        settings.keep_result_seconds,
    )


class Startable(Protocol):
    """Has a thread of its own."""

    def start(self) -> None: ...

    def stop(self) -> None: ...


S = TypeVar("S", bound=Startable)


def start(part: S, stack: ExitStack) -> S:
    """Start a part of the pipeline, and stop it when the stack is closed."""
    part.start()
    stack.callback(part.stop)
    return part


def build_attempt_runner(
    settings: WorkerSettings,
    worker_id: str,
    engine: Engine,
    jobs: JobStore,
    bucket: Bucket,
    publication: Publication,
) -> AttemptRunner:
    payloads = PayloadStore(connect(settings, decode=False))
    return AttemptRunner(
        inputs=InputReader(
            bucket,
            payloads,
            build_url_fetcher(settings),
            # The other half of the slots is for images that are there.
            HeldFetches(max(1, count_host_threads(settings, engine.model.device) // 2)),
            jobs.attempts.record_image,
            max_pixels=int(1e6 * settings.max_decode_megapixels),
            max_side=settings.max_image_side,
        ),
        decoders=engine.decoders,
        model=ModelInput(
            engine.model.revision, engine.model.resize, engine.model.can_scale_decode, engine.model.execution
        ),
        batches=engine.batches,
        renderers=load_renderers(),
        payloads=payloads,
        clock=jobs.clock,
        publication=publication,
        max_pixels=int(1e6 * settings.max_decode_megapixels),
        max_side=settings.max_image_side,
        recuts=build_recut_keeper(settings, engine.model),
        worker=public_worker_id(worker_id),
    )


def build_recut_keeper(settings: WorkerSettings, model: ModelLoaded) -> RecutKeeper:
    rule = KeepRule(settings.recut_floor, int(1e6 * settings.max_recut_megabytes))
    return RecutKeeper(model.recut_model, rule if settings.recut_ttl_seconds else None)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
