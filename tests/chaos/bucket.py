"""Reads what the bucket holds for the jobs of a trial."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from deploy.local.servers import ObjectServer
from deploy.local.stack import BUCKET
from shared.storage.keys import INBOX_PREFIX, RESULTS_PREFIX, result_key
from tests.chaos.records import Published


def read_published(objects: ObjectServer) -> Iterator[Published]:
    """Yield the stored objects of each job that has objects of results."""
    folders: dict[str, set[str]] = defaultdict(set)
    with objects.client() as client:
        for key in list_keys(client, RESULTS_PREFIX):
            job_id, _, rest = key.removeprefix(RESULTS_PREFIX).partition("/")
            folders[job_id].add(rest)
        for job_id, names in folders.items():
            yield _read_job(client, job_id, names)


def count_inputs(objects: ObjectServer) -> int:
    """Return how many inputs of unfinished jobs there are."""
    with objects.client() as client:
        return sum(1 for _ in list_keys(client, INBOX_PREFIX))


def list_keys(client: Any, prefix: str) -> Iterator[str]:
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", ()))


def _read_job(client: Any, job_id: str, names: Iterable[str]) -> Published:
    attempts = {name.partition("/")[0] for name in names if "/" in name}
    if "result.json" not in names:
        return Published(job_id, "", {}, tuple(sorted(attempts)))
    result = json.loads(_read(client, result_key(job_id)))
    attempt = str(result.get("attempt_name") or result["attempt"])
    files = {
        name.partition("/")[2]: _read(client, f"{RESULTS_PREFIX}{job_id}/{name}")
        for name in names
        if name.startswith(f"{attempt}/")
    }
    return Published(job_id, attempt, files, tuple(sorted(attempts - {attempt})))


def _read(client: Any, key: str) -> bytes:
    content: bytes = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    return content
