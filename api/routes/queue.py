"""The queues of all models, and their last hour."""

from flask import Response, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.gateway import Gateway
from api.http.openapi import SECURITY, failures
from api.http.parameters import refuse_query
from api.model_registry import ModelStatus
from api.routes.context import get_gateway
from api.routes.jobs import build_json
from api.schemas.queue import MinuteView, ModelQueueView, QueueListView, QueueView, RendererView
from shared.worker_registry import WorkerState

bp = APIBlueprint("queue", __name__, url_prefix="/v1/queue", abp_tags=[Tag(name="queue")], abp_security=SECURITY)
bp.before_request(lambda: refuse_query(request.args))


@bp.get("", responses={200: QueueListView, **failures()})
def show_queue() -> Response:
    """Show what waits for each model and for the renderer, and what workers did in the last hour; of all tenants."""
    gateway = get_gateway()
    models = [build_queue(gateway, model) for model in gateway.models.list_all()]
    state = gateway.renders.store.read_state()
    renderer = RendererView(is_alive=state.is_alive, queued=state.queued)
    response = build_json(QueueListView(models=models, renderer=renderer))
    response.headers["Cache-Control"] = "no-store"
    return response


def build_queue(gateway: Gateway, model: ModelStatus) -> ModelQueueView:
    now = gateway.now()
    return ModelQueueView(
        model=model.id,
        queues=[QueueView.of(depth, now) for depth in gateway.activity.measure_queues(model.id)],
        ready_workers=sum(worker.state is WorkerState.READY for worker in model.workers),
        images_per_second=gateway.load.read(model).rate,
        last_hour=[MinuteView.of(minute) for minute in gateway.activity.read_minutes(model.id)],
    )
