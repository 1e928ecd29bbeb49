"""A process exits with one line, before it writes anything, if a store holds data of another layout."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import redis

from shared.jobs.model import JobState
from shared.jobs.result import JobResult
from shared.layout import check_bucket_layout, check_layouts, check_redis_layout
from shared.redis_client import connect
from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from shared.storage.keys import LAYOUT_OBJECT, inbox_key, result_key
from tests.support.jobs import build_request, png


@pytest.fixture
def config(clean_redis: str, storage_env: dict[str, str], new_bucket: str) -> Settings:
    storage = {name.removeprefix("MASKMILL_").lower(): value for name, value in storage_env.items()}
    return Settings(redis_url=clean_redis, **{**storage, "storage_bucket": new_bucket})


def test_empty_stores_are_marked_and_accepted_again(config: Settings) -> None:
    client, bucket = connect(config), open_bucket(config)

    for _ in range(2):
        check_redis_layout(client)
        check_bucket_layout(bucket)

    assert (client.get("mm:layout"), bucket.get(LAYOUT_OBJECT)) == ("3", b"3")


def test_jobs_that_were_accepted_before_the_first_worker_started_do_not_lock_it_out(config: Settings) -> None:
    bucket, request = open_bucket(config), build_request()
    metadata = {"request": request.to_json()}
    bucket.put(inbox_key(request.id), png(), content_type="image/png", metadata=metadata)
    result = JobResult(request, JobState.CANCELED).to_json()
    bucket.put(result_key(request.id), result, content_type="application/json")
    bucket.put("inbox/notes.txt", b"no input", content_type="text/plain")

    check_bucket_layout(bucket)

    assert bucket.get(LAYOUT_OBJECT) == b"3"


def test_a_store_that_does_not_answer_does_not_keep_the_other_from_being_checked(config: Settings) -> None:
    bucket = open_bucket(config)
    unreachable = config.model_copy(update={"redis_url": "redis://127.0.0.1:9/0"})

    check_layouts(unreachable, bucket)

    assert bucket.get(LAYOUT_OBJECT) == b"3"


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


@pytest.mark.parametrize("module", ["api.wsgi", "worker.main", "worker.steward"])
@pytest.mark.parametrize("write", OLD_REDIS)
def test_another_layout_in_redis_stops_the_process(
    config: Settings, redis_client: "redis.Redis", write: Callable[["redis.Redis"], object], module: str
) -> None:
    write(redis_client)

    assert_refused(module, config, "Redis holds data of layout ")


@pytest.mark.parametrize("module", ["worker.main", "worker.steward"])
@pytest.mark.parametrize("write", OLD_BUCKETS)
def test_another_layout_in_the_bucket_stops_the_process(
    config: Settings, write: Callable[[Bucket], object], module: str
) -> None:
    write(open_bucket(config))

    assert_refused(module, config, "The bucket holds data of layout ")


def assert_refused(module: str, config: Settings, message: str) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MASKMILL_")}
    env = environment | {
        "MASKMILL_REDIS_URL": config.redis_url,
        "MASKMILL_STORAGE_ENDPOINT": config.storage_endpoint,
        "MASKMILL_STORAGE_BUCKET": config.storage_bucket,
        "MASKMILL_STORAGE_ACCESS_KEY": config.storage_access_key,
        "MASKMILL_STORAGE_SECRET_KEY": config.storage_secret_key.get_secret_value(),
        "MASKMILL_BIND": "127.0.0.1:1",
    }
    process = subprocess.run([sys.executable, "-m", module], env=env, capture_output=True, text=True, timeout=60)

    assert process.returncode == 1
    assert message in process.stderr
    assert process.stderr.count("\n") == 1
