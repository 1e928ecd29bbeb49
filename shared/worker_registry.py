"""The registry of workers and models in Redis: heartbeats of the workers, and the public ids of their models."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import TypeAdapter

from shared import redis_keys
from shared.redis_client import RedisClient, translate_redis_errors
from shared.redis_clock import RedisClock

EMBEDDED_MODEL_ID = "maskmill/embedded"
HEARTBEAT_INTERVAL_SECONDS = 3.0
HEARTBEAT_TIMEOUT_SECONDS = 12
MODEL_RETENTION_SECONDS = 7 * 24 * 3600
_ID_DIGITS = 16


def public_worker_id(worker_id: str) -> str:
    """Return the id under which clients see a worker; it reveals nothing of its machine."""
    return sha256(worker_id.encode()).hexdigest()[:_ID_DIGITS]


def public_id(model: str) -> str:
    """Return the id that clients use for a value of MASKMILL_MODEL.

    >>> public_id("embedded"), public_id("/srv/models/roads"), public_id("s3://models/v2/roads/")
    ('maskmill/embedded', 'local/roads', 's3/roads')
    >>> public_id("facebook/mask2former-swin-large-coco-panoptic")
    'facebook/mask2former-swin-large-coco-panoptic'

    The revision of a model of the Hub is no part of its id; it is that of its workers.

    >>> public_id("facebook/mask2former-swin-large-coco-panoptic@main")
    'facebook/mask2former-swin-large-coco-panoptic'
    """
    if model in ("embedded", EMBEDDED_MODEL_ID):
        return EMBEDDED_MODEL_ID
    if "://" in model:
        scheme, _, path = model.partition("://")
        return f"{scheme}/{PurePosixPath(path).name}"
    if model.startswith((".", "/", "~")):
        return f"local/{PurePosixPath(model).name}"
    return model.partition("@")[0]


class WorkerState(StrEnum):
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    SETUP_FAILED = "setup_failed"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """The content of a heartbeat.

    reason: why the setup failed, a sentence; empty otherwise.
    load_seconds: duration of the model's load; None until it is loaded.
    since: unix seconds by the clock of Redis, when the worker entered this state.
    forward: the kind of forward pass, exact or fast; empty until the model is loaded.
    agreement: the share of pixels, in [0, 1], that fast and exact label alike; None if it was not measured.
    """

    id: str
    model: str
    state: WorkerState
    device: str = ""
    revision: str = ""
    reason: str = ""
    load_seconds: float | None = None
    since: float = 0.0
    forward: str = ""
    agreement: float | None = None

    @classmethod
    def from_json(cls, text: str) -> Self:
        wire = json.loads(text)
        # Fields that a newer worker added are ignored, so either side may be deployed first.
        known = {name: wire[name] for name in cls.__dataclass_fields__ if name in wire}
        return cls(**{**known, "state": WorkerState(known["state"])})


@dataclass(frozen=True, slots=True)
class ModelClass:
    """One class of a model.

    is_thing: whether its instances are separate segments; None if that is unknown.
    """

    id: int
    label: str
    is_thing: bool | None = None


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a model can find, and how."""

    classes: tuple[ModelClass, ...] = ()
    subtasks: tuple[str, ...] = ()


_FACTS = TypeAdapter(ModelFacts)


@dataclass(frozen=True, slots=True)
class RegistrySnapshot:
    """The registry at one moment.

    workers: with a heartbeat in the last HEARTBEAT_TIMEOUT_SECONDS, by id.
    models: with a heartbeat in the last MODEL_RETENTION_SECONDS, sorted.
    load_seconds: by model, the duration of its last load on any worker.
    """

    workers: tuple[WorkerStatus, ...]
    models: tuple[str, ...]
    load_seconds: Mapping[str, float]


class WorkerRegistry:
    """Reads and writes heartbeats.  Thread-safe.

    A worker without heartbeats expires; its model stays listed for MODEL_RETENTION_SECONDS.  Every method may raise
    StoreUnavailable.

    clock: of Redis.
    """

    def __init__(self, client: RedisClient) -> None:
        self.clock = RedisClock(client)
        self._redis = client
        self._take_snapshot = client.register_script(Path(__file__).with_suffix(".lua").read_text())
        self._report = client.register_script(Path(__file__).with_name("worker_heartbeat.lua").read_text())

    @translate_redis_errors
    def report(self, status: WorkerStatus, facts: ModelFacts | None = None) -> None:
        """Write one heartbeat; with the facts of the model, once it is loaded."""
        keys = [redis_keys.worker(status.id), redis_keys.WORKERS, redis_keys.MODELS, redis_keys.LOAD_SECONDS]
        heartbeat = json.dumps(asdict(status))
        load_seconds = "" if status.load_seconds is None else status.load_seconds
        is_usable = int(status.state is not WorkerState.SETUP_FAILED)
        self._report(keys, [status.id, heartbeat, HEARTBEAT_TIMEOUT_SECONDS, status.model, is_usable, load_seconds])
        if facts is not None:
            self._redis.set(redis_keys.model_facts(status.model), _FACTS.dump_json(facts), ex=MODEL_RETENTION_SECONDS)

    @translate_redis_errors
    def read_facts(self, model: str) -> ModelFacts:
        """Return the facts of a model; empty ones if no worker has loaded it lately."""
        found = self._redis.get(redis_keys.model_facts(model))
        return ModelFacts() if found is None else _FACTS.validate_json(found)

    @translate_redis_errors
    def deregister(self, worker_id: str) -> None:
        """Remove a worker; for an orderly exit."""
        self._redis.delete(redis_keys.worker(worker_id))
        self._redis.zrem(redis_keys.WORKERS, worker_id)

    @translate_redis_errors
    def snapshot(self) -> RegistrySnapshot:
        """Return all workers and models, in one round trip: it is part of the latency of a synchronous request."""
        workers, models, load_seconds = self._take_snapshot(
            keys=[redis_keys.WORKERS, redis_keys.MODELS, redis_keys.LOAD_SECONDS],
            args=[self._redis.key_prefix + redis_keys.worker(""), MODEL_RETENTION_SECONDS],
        )
        return RegistrySnapshot(
            workers=tuple(WorkerStatus.from_json(text) for text in workers),
            models=tuple(sorted(models)),
            load_seconds={
                model: float(seconds) for model, seconds in zip(load_seconds[::2], load_seconds[1::2], strict=True)
            },
        )
