"""Models and the workers that serve them."""

from typing import Self

from pydantic import BaseModel, Field

from api.model_registry import ModelState, ModelStatus
from api.schemas.queue import QueueView
from shared.worker_registry import WorkerState, WorkerStatus, public_worker_id

PUBLIC_REASON = "This worker cannot serve its model; its log says why."


class ModelPath(BaseModel):
    model_id: str = Field(description="The model's id; it may contain slashes.")


class WorkerView(BaseModel):
    """A worker.  `name`, and the whole `reason`, are shown to tokens with the scope `admin` alone."""

    id: str = Field(description="The same for as long as the worker runs; it reveals nothing of its machine.")
    state: WorkerState
    device: str
    revision: str
    reason: str = Field(description="Why it cannot serve, if it cannot.")
    load_seconds: float | None = Field(description="How long its model took to load.")
    forward: str = Field(description="The kind of forward pass: `exact` or `fast`; empty until the model is loaded.")
    agreement: float | None = Field(
        description="Share of pixels that `fast` labels as `exact` does, on photos that come with the worker; "
        "null if it was not measured."
    )
    name: str | None = Field(description="Host name, process id and a random part; null without `admin`.")

    @classmethod
    def of(cls, worker: WorkerStatus, *, is_operator: bool) -> Self:
        return cls(
            id=public_worker_id(worker.id),
            state=worker.state,
            device=worker.device,
            revision=worker.revision,
            # It quotes errors of libraries, which may hold paths and addresses.
            reason=worker.reason if is_operator or not worker.reason else PUBLIC_REASON,
            load_seconds=worker.load_seconds,
            forward=worker.forward,
            agreement=worker.agreement,
            name=worker.id if is_operator else None,
        )


class ModelView(BaseModel):
    """A model, and the workers that serve it."""

    id: str
    state: ModelState
    workers: list[WorkerView]

    @classmethod
    def of(cls, model: ModelStatus, *, is_operator: bool = False) -> Self:
        """Show a model; `is_operator` tells whether the caller may see facts of machines."""
        workers = [WorkerView.of(worker, is_operator=is_operator) for worker in model.workers]
        return cls(id=model.id, state=model.state, workers=workers)


class ClassView(BaseModel):
    id: int = Field(description="The `label_id` of segments.")
    label: str
    is_thing: bool | None = Field(description="Whether its instances are separate segments; null if that is unknown.")


class ModelDetailView(ModelView):
    """A model with its classes and its load."""

    subtasks: list[str]
    classes: list[ClassView] = Field(description="Empty until a worker has loaded the model.")
    queues: list[QueueView] = Field(description="By priority, the highest first.")
    images_per_second: float | None = Field(
        description="Jobs that the workers complete in a second while they have enough; null if it was not measured."
    )


class ModelListView(BaseModel):
    """Every model that can be asked for."""

    models: list[ModelView]
    default: str
