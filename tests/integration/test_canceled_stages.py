"""A running job is canceled between any two stages: what comes after is not done, and nothing of it is stored."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import redis

from shared import redis_keys
from shared.jobs.completion import complete_job, read_result
from shared.jobs.model import JobRequest, JobState
from shared.jobs.result import JobResult
from shared.jobs.store import Claim
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.keys import inbox_key, results_prefix
from tests.support.environment import get_fields
from tests.support.jobs import FakeSegmenter, ImmediateScheduler, build_request, store_input
from tests.support.polling import wait_until
from tests.support.worker import InProcessWorker, build_worker, start_shared_decoders
from worker.batching.scheduler import Ticket
from worker.decoding.decoded_image import DecodedImage
from worker.formats.rendered import Rendered, RenderSource
from worker.pipeline import cancellations
from worker.pipeline.attempt import AttemptRunner
from worker.pipeline.cancellations import CancellationListener
from worker.pipeline.leases import Lease, LeaseKeeper
from worker.pipeline.publication import Publication
from worker.segmenter import ModelImage

STAGES = ["fetch", "decode", "submit", "labels", "overlay", "masks", "file"]


@dataclass
class Recorder:
    """Remembers the stages that began, and cancels the job at one of them."""

    cancel_at: str
    cancel: Callable[[], object]
    stages: list[str] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        self.stages.append(stage)
        if stage == self.cancel_at:
            self.cancel()


@dataclass(frozen=True)
class RecordedWorker(InProcessWorker):
    """Calls the recorder when a stage begins."""

    recorder: Recorder = field(default_factory=lambda: Recorder("", lambda: None))

    def _build_runner(self, model: str) -> Any:
        runner = super()._build_runner(model)
        return replace(runner, attempts=record_stages(runner.attempts, self.recorder))


def record_stages(attempts: AttemptRunner, recorder: Recorder) -> AttemptRunner:
    return replace(
        attempts,
        inputs=RecordedInputs(attempts.inputs, recorder),
        decoders=RecordedDecoders(recorder),
        batches=RecordedScheduler(recorder),
        renderers={name: record_renderer(name, attempts.renderers, recorder) for name in attempts.renderers},
        publication=RecordedPublication(attempts.publication, recorder),
    )


@dataclass(frozen=True)
class RecordedInputs:
    inputs: Any
    recorder: Recorder

    def fetch(self, request: JobRequest) -> bytes:
        content: bytes = self.inputs.fetch(request)
        # The cancellation deletes the input.
        self.recorder.begin("fetch")
        return content


@dataclass(frozen=True)
class RecordedDecoders:
    recorder: Recorder

    def decode(self, *arguments: Any, **options: Any) -> DecodedImage:
        self.recorder.begin("decode")
        return start_shared_decoders().decode(*arguments, **options)


class RecordedScheduler(ImmediateScheduler):
    def __init__(self, recorder: Recorder) -> None:
        super().__init__(FakeSegmenter())
        self._recorder = recorder

    def submit(self, image: ModelImage, **options: Any) -> Ticket:
        self._recorder.begin("submit")
        return super().submit(image, **options)


def record_renderer(
    name: str, renderers: Mapping[str, Callable[[RenderSource], Rendered]], recorder: Recorder
) -> Callable[[RenderSource], Rendered]:
    def render(source: RenderSource) -> Rendered:
        recorder.begin(name)
        return renderers[name](source)

    return render


@dataclass(frozen=True)
class RecordedPublication:
    publication: Publication
    recorder: Recorder

    def store_file(self, lease: Lease, *arguments: Any) -> Any:
        self.recorder.begin("file")
        return self.publication.store_file(lease, *arguments)


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str]) -> Settings:
    # No lease is renewed within the test, so that only the message tells of the cancellation.
    return Settings(redis_url=clean_redis, **get_fields(storage_env), lease_seconds=300)


@pytest.fixture
def worker(config: Settings, redis_client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Iterator[InProcessWorker]:
    monkeypatch.setattr(cancellations, "POLL_SECONDS", 0.02)
    worker = build_worker(config)
    listener = CancellationListener(connect(config), worker.leases.check)
    listener.start()
    wait_until(lambda: redis_client.pubsub_numsub(redis_keys.CANCELED)[0][1] == 1)
    yield worker
    listener.stop()
    wait_until(lambda: redis_client.pubsub_numsub(redis_keys.CANCELED)[0][1] == 0)


def submit(worker: InProcessWorker) -> JobRequest:
    request = build_request()
    store_input(worker.bucket, request)
    worker.jobs.create(request)
    return request


def cancel_and_wait(worker: InProcessWorker, request: JobRequest) -> None:
    """Cancel a job, and wait until its worker knows."""
    (lease,) = worker.leases._leases
    complete_job(JobResult(request, JobState.CANCELED), jobs=worker.jobs, bucket=worker.bucket)
    wait_until(lambda: not lease.is_held, seconds=5)


@pytest.mark.parametrize("stage", STAGES)
def test_what_comes_after_the_cancellation_is_not_done(worker: InProcessWorker, stage: str) -> None:
    request = submit(worker)
    recorder = Recorder(stage, lambda: cancel_and_wait(worker, request))
    fields = {name: getattr(worker, name) for name in InProcessWorker.__dataclass_fields__}

    RecordedWorker(**fields, recorder=recorder).run(request.id)

    assert recorder.stages == STAGES[: STAGES.index(stage) + 1]
    stored = [found.key for found in worker.bucket.list_objects(results_prefix(request.id))]
    assert [key.rpartition("/")[2] for key in stored] == ["result.json"]
    result = read_result(request.id, bucket=worker.bucket)
    assert (result and result.state, worker.jobs.get(request.id).state) == (JobState.CANCELED, JobState.CANCELED)
    assert list(worker.bucket.list_objects(inbox_key(request.id))) == []


def test_only_the_job_that_was_canceled_loses_its_lease(worker: InProcessWorker) -> None:
    canceled, other = submit(worker), submit(worker)
    claims = [worker.claim(request.id) for request in (canceled, other)]
    first, second = (claim for claim in claims if isinstance(claim, Claim))

    with worker.leases.hold(first) as one, worker.leases.hold(second) as two:
        complete_job(JobResult(canceled, JobState.CANCELED), jobs=worker.jobs, bucket=worker.bucket)

        wait_until(lambda: not one.is_held, seconds=5)
        assert two.is_held
        worker.leases.check(other.id)
        assert two.is_held


def test_a_purge_reaches_the_worker_at_once(worker: InProcessWorker) -> None:
    request = submit(worker)
    claim = worker.claim(request.id)
    assert claim is not None

    with worker.leases.hold(claim) as lease:
        worker.jobs.purge(request.id)

        wait_until(lambda: not lease.is_held, seconds=5)


def test_a_settled_lease_is_not_lost_by_a_message(worker: InProcessWorker) -> None:
    request = submit(worker)
    claim = worker.claim(request.id)
    assert claim is not None
    keeper: LeaseKeeper = worker.leases

    with keeper.hold(claim) as lease:
        lease.settle()
        complete_job(JobResult(request, JobState.CANCELED), jobs=worker.jobs, bucket=worker.bucket)
        keeper.check(request.id)

        assert lease.is_held
