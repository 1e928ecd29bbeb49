"""A process exits with one line, before it writes anything, if a store holds data of another layout."""

from collections.abc import Callable

import pytest
import redis

from shared.errors import LayoutMismatch
from shared.jobs.model import JobState
from shared.jobs.result import JobResult
from shared.layout import check_bucket_layout, check_redis_layout
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import LAYOUT_OBJECT, result_key
from shared.store_check import check_at_start, open_store_check
from tests.support.environment import get_fields
from tests.support.jobs import build_request, store_input
from tests.support.start import run_refused


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> Settings:
    return Settings(redis_url=clean_redis, **{**get_fields(storage_env), "storage_bucket": new_bucket})


def test_empty_stores_are_marked_and_accepted_again(config: Settings) -> None:
    client, bucket = connect(config), open_bucket(config)

    for _ in range(2):
        check_redis_layout(client)
        check_bucket_layout(bucket)

    assert (client.get("mm:layout"), bucket.get(LAYOUT_OBJECT)) == ("4", b"4")


def test_jobs_that_were_accepted_before_the_first_worker_started_do_not_lock_it_out(config: Settings) -> None:
    bucket, request = open_bucket(config), build_request()
    store_input(bucket, request)
    result = JobResult(request, JobState.CANCELED).to_json()
    bucket.put(result_key(request.id), result, content_type="application/json")
    bucket.put("inbox/notes.txt", b"no input", content_type="text/plain")

    check_bucket_layout(bucket)

    assert bucket.get(LAYOUT_OBJECT) == b"4"


def test_a_store_that_does_not_answer_does_not_keep_the_other_from_being_checked(config: Settings) -> None:
    bucket = open_bucket(config)
    unreachable = connect(config.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"}))

    check_at_start(open_store_check(config, unreachable, bucket))

    assert bucket.get(LAYOUT_OBJECT) == b"4"


OLD_REDIS: list[Callable[["redis.Redis"], object]] = [
    lambda client: client.set("mm:layout", "2"),
    lambda client: client.sadd("mm:queues", "segment.maskmill/embedded.batch"),
    lambda client: client.zadd("mm:claimed", {"mm:queued:x": 1}),
]
OLD_BUCKETS: list[Callable[[Bucket], object]] = [
    lambda bucket: bucket.put(LAYOUT_OBJECT, b"2", content_type="text/plain"),
    lambda bucket: bucket.put(
        "inbox/" + "0" * 32, b"image", content_type="image/png", metadata={"request": '{"lane": "batch"}'}
    ),
    lambda bucket: bucket.put(
        "results/" + "0" * 32 + "/result.json", b'{"request": {"lane": "batch"}}', content_type="application/json"
    ),
]


MODULES = ["api.wsgi", "worker.main", "worker.steward"]


@pytest.mark.parametrize("write", OLD_REDIS)
def test_another_layout_in_redis_is_refused(
    config: Settings, redis_client: "redis.Redis", write: Callable[["redis.Redis"], object]
) -> None:
    write(redis_client)

    with pytest.raises(LayoutMismatch, match=r"^Redis holds data of layout "):
        check_redis_layout(connect(config))


@pytest.mark.parametrize("write", OLD_BUCKETS)
def test_another_layout_in_the_bucket_is_refused(config: Settings, write: Callable[[Bucket], object]) -> None:
    write(open_bucket(config))

    with pytest.raises(LayoutMismatch, match=r"^The bucket holds data of layout "):
        check_bucket_layout(open_bucket(config))


@pytest.mark.parametrize("module", MODULES)
def test_another_layout_in_redis_stops_the_process(config: Settings, redis_client: "redis.Redis", module: str) -> None:
    redis_client.set("mm:layout", "2")

    assert "Redis holds data of layout " in run_refused(module, config.redis_url, config)


@pytest.mark.parametrize("module", MODULES)
def test_another_layout_in_the_bucket_stops_the_process(config: Settings, module: str) -> None:
    open_bucket(config).put(LAYOUT_OBJECT, b"2", content_type="text/plain")

    assert "The bucket holds data of layout " in run_refused(module, config.redis_url, config)
