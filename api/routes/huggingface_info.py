"""What the Hugging Face clients ask an endpoint besides inference: is it well, what is it, is a model loaded.

They put their question behind the address that they were given, so each is answered there too.
"""

from http import HTTPStatus

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint

from api.http.context import services
from api.inference.model_registry import ModelState, ModelStatus
from api.schemas.models import ModelPath
from shared import __version__

bp = APIBlueprint("endpoint", __name__, doc_ui=False)


@bp.get("/models/<path:model_id>/health")
def show_health(path: ModelPath) -> Response:
    """Answer 200 if there is a worker for the model, and 503 if not."""
    model = _model(path)
    response = jsonify(status="ok" if _is_loaded(model) else "unavailable", state=model.state)
    response.status_code = HTTPStatus.OK if _is_loaded(model) else HTTPStatus.SERVICE_UNAVAILABLE
    return response


@bp.get("/info")
def show_default_info() -> Response:
    """Tell what is served at `/`."""
    return _info(services().model_registry.find(None))


@bp.get("/models/<path:model_id>/info")
def show_info(path: ModelPath) -> Response:
    """Tell what is served at a model's address."""
    return _info(_model(path))


@bp.get("/status/<path:model_id>")
def show_status(path: ModelPath) -> Response:
    """Tell whether a model is loaded, in the words of the Inference API of 2024."""
    model = _model(path)
    state = "Loaded" if _is_loaded(model) else "Loadable"
    return jsonify(loaded=_is_loaded(model), state=state, compute_type=model.compute_type, framework="transformers")


def _model(path: ModelPath) -> ModelStatus:
    return services().model_registry.find(path.model_id.strip("/"))


def _is_loaded(model: ModelStatus) -> bool:
    return model.state is ModelState.READY


def _info(model: ModelStatus) -> Response:
    return jsonify(
        model_id=model.id,
        model_sha=model.revision,
        task="image-segmentation",
        state=model.state,
        compute_type=model.compute_type,
        server="maskmill",
        version=__version__,
    )
