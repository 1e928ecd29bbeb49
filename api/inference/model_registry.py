"""Which models can be asked for, as the heartbeats of the workers tell it; looked up once a second at most."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import UnknownModel
from shared.worker_registry import EMBEDDED_MODEL_ID, WorkerRegistry, WorkerState, WorkerStatus, public_id

KEEP_SECONDS = 1.0
# What is said of a model that was never loaded here.
UNKNOWN_LOAD_SECONDS = 20.0


class ModelState(StrEnum):
    READY = "ready"
    LOADING = "loading"
    SETUP_FAILED = "setup_failed"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model and the workers that were heard of lately; `load_seconds` is how long it took to load the last time."""

    id: str
    workers: tuple[WorkerStatus, ...]
    load_seconds: float | None = None

    @property
    def state(self) -> ModelState:
        """The best that any of its workers can say."""
        states = Counter(worker.state for worker in self.workers)
        for state in (WorkerState.READY, WorkerState.LOADING, WorkerState.SETUP_FAILED):
            if states[state]:
                return ModelState(state)
        return ModelState.OFFLINE

    @property
    def compute_type(self) -> str:
        """What it runs on, as the Hugging Face API calls it: gpu or cpu."""
        return "gpu" if any(worker.device.startswith("cuda") for worker in self.workers) else "cpu"

    @property
    def revision(self) -> str | None:
        """The revision that all of its ready workers have; None if they differ, or there are none."""
        revisions = {worker.revision for worker in self.workers if worker.state is WorkerState.READY}
        return revisions.pop() if len(revisions) == 1 else None

    @property
    def why_not_ready(self) -> str:
        """A sentence for a caller who waits for it."""
        broken = [worker.reason for worker in self.workers if worker.state is WorkerState.SETUP_FAILED]
        if self.state is ModelState.SETUP_FAILED:
            return f"Model {self.id} could not be loaded: {broken[0]}"
        if self.state is ModelState.OFFLINE:
            return f"Model {self.id} has no worker at present"
        return f"Model {self.id} is currently loading"

    def estimated_seconds(self, now: float) -> float:
        """Return how long it will take from now (unix seconds), as far as that is known; at least 1."""
        usual = UNKNOWN_LOAD_SECONDS if self.load_seconds is None else self.load_seconds
        loading = [now - worker.since for worker in self.workers if worker.state is WorkerState.LOADING]
        return round(max(1.0, usual - max(loading, default=0.0)), 1)


class ModelRegistry:
    """Thread-safe.  Every method but `default` may raise StoreUnavailable."""

    def __init__(self, registry: WorkerRegistry, *, default: str) -> None:
        """Take the default as the setting MASKMILL_MODEL names it."""
        self._catalogue = registry
        self.default = public_id(default)
        self._lock = threading.Lock()
        self._kept: tuple[float, Sequence[ModelStatus]] = (-KEEP_SECONDS, ())

    def all(self) -> Sequence[ModelStatus]:
        """Return the default and every model that a worker served within the last week, by id."""
        with self._lock:
            read_at, models = self._kept
            if models and time.monotonic() - read_at < KEEP_SECONDS:
                return models
            models = self._read()
            self._kept = (time.monotonic(), models)
            return models

    def find(self, asked: str | None) -> ModelStatus:
        """Return the model that a caller means; without a name, the default.

        Raises:
            UnknownModel: nobody serves it.
        """
        wanted = self.default if not asked else EMBEDDED_MODEL_ID if asked == "embedded" else asked
        models = self.all()
        for model in models:
            if model.id == wanted:
                return model
        known = ", ".join(model.id for model in models)
        raise UnknownModel(f"The model {wanted[:200]} is not served here; there is: {known}.")

    def _read(self) -> Sequence[ModelStatus]:
        told = self._catalogue.snapshot()
        ids = {self.default, *told.models, *(worker.model for worker in told.workers)}
        return [
            ModelStatus(
                model,
                tuple(worker for worker in told.workers if worker.model == model),
                told.load_seconds.get(model),
            )
            for model in sorted(ids)
        ]
