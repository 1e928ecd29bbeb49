"""Models and the workers that serve them."""

from typing import Self

from pydantic import BaseModel, Field

from api.model_registry import ModelState, ModelStatus
from shared.worker_registry import WorkerState


class ModelPath(BaseModel):
    model_id: str = Field(description="The model's id; it may contain slashes.")


class WorkerView(BaseModel):
    id: str
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


class ModelView(BaseModel):
    """A model, and the workers that serve it."""

    id: str
    state: ModelState
    workers: list[WorkerView]

    @classmethod
    def of(cls, model: ModelStatus) -> Self:
        workers = [
            WorkerView(
                id=worker.id,
                state=worker.state,
                device=worker.device,
                revision=worker.revision,
                reason=worker.reason,
                load_seconds=worker.load_seconds,
                forward=worker.forward,
                agreement=worker.agreement,
            )
            for worker in model.workers
        ]
        return cls(id=model.id, state=model.state, workers=workers)


class ModelListView(BaseModel):
    """Every model that can be asked for."""

    models: list[ModelView]
    default: str
