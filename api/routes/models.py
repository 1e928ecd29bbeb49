"""The models that a request can name, and the workers that serve them."""

from flask import Response, jsonify, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag

from api.http.openapi import SECURITY, failures
from api.http.parameters import refuse_query
from api.routes.context import get_gateway, is_operator
from api.schemas.models import ClassView, ModelDetailView, ModelListView, ModelPath, ModelView
from api.schemas.queue import QueueView
from shared.errors import UnknownModel

bp = APIBlueprint("models", __name__, url_prefix="/v1/models", abp_tags=[Tag(name="models")], abp_security=SECURITY)
bp.before_request(lambda: refuse_query(request.args))


@bp.get("", responses={200: ModelListView, **failures()})
def list_models() -> Response:
    """List every model that a worker serves, or served within the last week."""
    models = get_gateway().models
    view = ModelListView(
        models=[ModelView.of(model, is_operator=is_operator()) for model in models.list_all()], default=models.default
    )
    return jsonify(view.model_dump(mode="json"))


@bp.get("/<path:model_id>", responses={200: ModelDetailView, **failures(UnknownModel)})
def show_model(path: ModelPath) -> Response:
    """Show one model: its workers, its classes, and the jobs that wait for it."""
    gateway = get_gateway()
    model = gateway.models.find(path.model_id.rstrip("/"))
    facts, now = gateway.models.read_facts(model), gateway.now()
    view = ModelDetailView(
        **ModelView.of(model, is_operator=is_operator()).model_dump(),
        subtasks=list(facts.subtasks),
        classes=[ClassView(id=one.id, label=one.label, is_thing=one.is_thing) for one in facts.classes],
        queues=[QueueView.of(depth, now) for depth in gateway.activity.measure_queues(model.id)],
        images_per_second=gateway.load.read(model).rate,
    )
    return jsonify(view.model_dump(mode="json"))
