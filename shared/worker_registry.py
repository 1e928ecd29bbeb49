"""Which models there are, and who serves them: the public name of a model, and the heartbeats of the workers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Self

from shared.redis_client import RedisClient, answers_or_unavailable

EMBEDDED = "maskmill/embedded"
HEARTBEAT_SECONDS = 3.0
SILENCE_SECONDS = 12
KNOWN_SECONDS = 7 * 24 * 3600


def public_id(model: str) -> str:
    """Return the name that clients use for a value of MASKMILL_MODEL.

    >>> public_id("embedded"), public_id("/srv/models/roads"), public_id("s3://models/v2/roads/")
    ('maskmill/embedded', 'local/roads', 's3/roads')
    >>> public_id("facebook/mask2former-swin-large-coco-panoptic")
    'facebook/mask2former-swin-large-coco-panoptic'
    """
    if model in ("embedded", EMBEDDED):
        return EMBEDDED
    if model.startswith("s3://"):
        return f"s3/{PurePosixPath(model).name}"
    if model.startswith((".", "/", "~")):
        return f"local/{PurePosixPath(model).name}"
    return model


class WorkerState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    SETUP_FAILED = "setup_failed"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker's heartbeat.

    load_seconds: how long its model took, or None until it has.  since: unix seconds, when it entered this state.
    """

    id: str
    model: str
    state: WorkerState
    device: str = ""
    revision: str = ""
    reason: str = ""
    load_seconds: float | None = None
    since: float = 0.0

    @classmethod
    def from_json(cls, text: str) -> Self:
        wire = json.loads(text)
        known = {name: wire[name] for name in cls.__dataclass_fields__ if name in wire}
        return cls(**{**known, "state": WorkerState(known["state"])})


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """What the heartbeats tell.

    workers: those heard of in the last SILENCE_SECONDS, by id.
    models: every model that a worker served within the last week, sorted.
    load_seconds: how long each model took to load when it was last loaded anywhere, by model.
    """

    workers: tuple[WorkerStatus, ...]
    models: tuple[str, ...]
    load_seconds: Mapping[str, float]


class WorkerRegistry:
    """Heartbeats in Redis.  A worker that falls silent vanishes; its model stays known for a week."""

    def __init__(self, client: RedisClient) -> None:
        self._redis = client
        self._read = client.register_script(Path(__file__).with_suffix(".lua").read_text())

    @answers_or_unavailable
    def report(self, status: WorkerStatus) -> None:
        """Write one heartbeat."""
        now = self._now()
        with self._redis.pipeline(transaction=False) as batch:
            batch.set(f"mm:worker:{status.id}", json.dumps(asdict(status)), ex=SILENCE_SECONDS)
            batch.zadd("mm:workers", {status.id: now})
            batch.zremrangebyscore("mm:workers", "-inf", now - 10 * SILENCE_SECONDS)
            if status.state is not WorkerState.SETUP_FAILED:
                batch.zadd("mm:models", {status.model: now})
            if status.load_seconds is not None:
                batch.hset("mm:load_seconds", status.model, status.load_seconds)
            batch.execute()

    @answers_or_unavailable
    def leave(self, worker_id: str) -> None:
        """Withdraw a worker that ends in order."""
        self._redis.delete(f"mm:worker:{worker_id}")
        self._redis.zrem("mm:workers", worker_id)

    @answers_or_unavailable
    def read(self) -> RegistrySnapshot:
        """Return all that is known, in one step: a synchronous request may have to wait for it."""
        workers, models, took = self._read(keys=["mm:workers", "mm:models", "mm:load_seconds"], args=[KNOWN_SECONDS])
        return RegistrySnapshot(
            workers=tuple(WorkerStatus.from_json(text) for text in workers),
            models=tuple(sorted(models)),
            load_seconds={model: float(seconds) for model, seconds in zip(took[::2], took[1::2], strict=True)},
        )

    def _now(self) -> float:
        seconds, micros = self._redis.time()
        return float(seconds) + float(micros) / 1e6
