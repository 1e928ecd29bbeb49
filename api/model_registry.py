"""The models that a request can name, from the workers' heartbeats; read at most once a second."""

import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from api.quoting import quote
from shared.errors import BadParameter, UnknownModel
from shared.worker_registry import EMBEDDED_MODEL_ID, ModelFacts, WorkerRegistry, WorkerState, WorkerStatus, public_id

CACHE_SECONDS = 1.0
# Estimate for a model that was never loaded here.
DEFAULT_LOAD_SECONDS = 20.0


class ModelState(StrEnum):
    READY = "ready"
    LOADING = "loading"
    SETUP_FAILED = "setup_failed"
    OFFLINE = "offline"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model and its live workers; `load_seconds` is how long it took to load the last time."""

    id: str
    workers: tuple[WorkerStatus, ...]
    load_seconds: float | None = None

    @property
    def state(self) -> ModelState:
        """The best state of any of its workers."""
        states = Counter(worker.state for worker in self.workers)
        for state in (WorkerState.READY, WorkerState.LOADING, WorkerState.SETUP_FAILED):
            if states[state]:
                return ModelState(state)
        return ModelState.OFFLINE

    @property
    def compute_type(self) -> str:
        """The kind of device, as the Hugging Face API names it: gpu or cpu."""
        return "gpu" if any(worker.device.startswith("cuda") for worker in self.workers) else "cpu"

    @property
    def revision(self) -> str | None:
        """The revision of all ready workers; None if they differ, or there are none."""
        revisions = {worker.revision for worker in self.workers if worker.state is WorkerState.READY}
        return revisions.pop() if len(revisions) == 1 else None

    @property
    def not_ready_reason(self) -> str:
        """A sentence for callers: why the model is not ready."""
        if self.state is ModelState.SETUP_FAILED:
            # The reason may hold paths and addresses, so it is shown to operators only.
            return f"Model {self.id} could not be loaded; the worker's log says why"
        if self.state is ModelState.OFFLINE:
            return f"Model {self.id} has no worker at present"
        return f"Model {self.id} is currently loading"

    def estimated_seconds(self, now: float) -> float:
        """Return the estimated time from now (unix seconds by the clock of Redis) until it is ready; at least 1 s."""
        load_seconds = DEFAULT_LOAD_SECONDS if self.load_seconds is None else self.load_seconds
        loading = [now - worker.since for worker in self.workers if worker.state is WorkerState.LOADING]
        return round(max(1.0, load_seconds - max(loading, default=0.0)), 1)


class ModelRegistry:
    """Thread-safe.  Every method but `default` may raise StoreUnavailable."""

    def __init__(self, registry: WorkerRegistry, *, default: str, aliases: Mapping[str, str] | None = None) -> None:
        """Take the value of MASKMILL_MODEL, and the model of each alias."""
        self._aliases = aliases or {}
        self._catalogue = registry
        self.default = public_id(default)
        self._lock = threading.Lock()
        self._cached: tuple[float, Sequence[ModelStatus]] = (-CACHE_SECONDS, ())

    def list_all(self) -> Sequence[ModelStatus]:
        """Return the default model and every model that a worker served within the last week, by id."""
        with self._lock:
            read_at, models = self._cached
            if models and time.monotonic() - read_at < CACHE_SECONDS:
                return models
            models = self._read()
            self._cached = (time.monotonic(), models)
            return models

    def find(self, model_id: str | None) -> ModelStatus:
        """Return a model by its id, or by an alias that no worker serves; without an id, the default.

        Raises:
            UnknownModel: no worker serves it.
        """
        wanted = self.default if not model_id else EMBEDDED_MODEL_ID if model_id == "embedded" else model_id
        models = self.list_all()
        by_id = {model.id: model for model in models}
        found = by_id.get(wanted) or by_id.get(self._aliases.get(wanted, ""))
        if found is not None:
            return found
        known = ", ".join(model.id for model in models)
        raise UnknownModel(f"The model {wanted[:200]} is not served here; there is: {known}.")

    def read_facts(self, model: ModelStatus) -> ModelFacts:
        """Return the classes and subtasks of a model."""
        return self._catalogue.read_facts(model.id)

    def check_labels(self, labels: Collection[str], model: ModelStatus) -> None:
        """Check that a model has classes of these labels; of one that no worker has loaded lately, any may be asked.

        Raises:
            BadParameter: it lacks one.
        """
        if not labels:
            return
        known = {one.label for one in self.read_facts(model).classes}
        unknown = next((label for label in labels if label not in known), None)
        if known and unknown is not None:
            raise BadParameter(
                f"The model {model.id} has no label {quote(unknown)}; GET /v1/models/{model.id} lists its labels."
            )

    def _read(self) -> Sequence[ModelStatus]:
        snapshot = self._catalogue.snapshot()
        ids = {self.default, *snapshot.models, *(worker.model for worker in snapshot.workers)}
        return [
            ModelStatus(
                model,
                tuple(worker for worker in snapshot.workers if worker.model == model),
                snapshot.load_seconds.get(model),
            )
            for model in sorted(ids)
        ]
