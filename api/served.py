"""Which models can be asked for, as the heartbeats of the workers tell it; looked up once a second at most."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from shared.catalogue import EMBEDDED, Catalogue, WorkerState, WorkerStatus, public_id
from shared.errors import UnknownModel

KEEP_SECONDS = 1.0


class ModelState(StrEnum):
    READY = "ready"
    LOADING = "loading"
    SETUP_FAILED = "setup_failed"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model and the workers that were heard of lately."""

    id: str
    workers: tuple[WorkerStatus, ...]

    @property
    def state(self) -> ModelState:
        """The best that any of its workers can say."""
        states = Counter(worker.state for worker in self.workers)
        for state in (WorkerState.READY, WorkerState.LOADING, WorkerState.SETUP_FAILED):
            if states[state]:
                return ModelState(state)
        return ModelState.OFFLINE


class ServedModels:
    """Thread-safe.  Every method but `default` may raise StoreUnavailable."""

    def __init__(self, catalogue: Catalogue, *, default: str) -> None:
        """Take the default as the setting MASKMILL_MODEL names it."""
        self._catalogue = catalogue
        self.default = public_id(default)
        self._lock = threading.Lock()
        self._kept: tuple[float, Sequence[ServedModel]] = (-KEEP_SECONDS, ())

    def all(self) -> Sequence[ServedModel]:
        """Return the default and every model that a worker served within the last week, by id."""
        with self._lock:
            read_at, models = self._kept
            if models and time.monotonic() - read_at < KEEP_SECONDS:
                return models
            models = self._read()
            self._kept = (time.monotonic(), models)
            return models

    def find(self, asked: str | None) -> ServedModel:
        """Return the model that a caller means; without a name, the default.

        Raises:
            UnknownModel: nobody serves it.
        """
        wanted = self.default if not asked else EMBEDDED if asked == "embedded" else asked
        models = self.all()
        for model in models:
            if model.id == wanted:
                return model
        known = ", ".join(model.id for model in models)
        raise UnknownModel(f"The model {wanted[:200]} is not served here; there is: {known}.")

    def _read(self) -> Sequence[ServedModel]:
        workers = self._catalogue.workers()
        ids = {self.default, *self._catalogue.known_models(), *(worker.model for worker in workers)}
        return [
            ServedModel(model, tuple(worker for worker in workers if worker.model == model)) for model in sorted(ids)
        ]
