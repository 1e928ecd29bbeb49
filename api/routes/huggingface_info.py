"""Routes of the Hugging Face clients besides inference: health, description, state of a model.

Clients append these paths to the URL that they were given, so the routes exist below a model's path too.
"""

from http import HTTPStatus

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint

from api.model_registry import ModelState, ModelStatus
from api.routes.context import get_gateway
from api.schemas.models import ModelPath
from shared import __version__

bp = APIBlueprint("huggingface_info", __name__, doc_ui=False)


@bp.get("/models/<path:model_id>/health")
def show_health(path: ModelPath) -> Response:
    """Answer 200 if the model has a ready worker, and 503 if not."""
    model = _find_model(path)
    response = jsonify(status="ok" if _is_loaded(model) else "unavailable", state=model.state)
    response.status_code = HTTPStatus.OK if _is_loaded(model) else HTTPStatus.SERVICE_UNAVAILABLE
    return response


@bp.get("/info")
def show_default_info() -> Response:
    """Describe the model at `/`."""
    return _build_info(get_gateway().models.find(None))


@bp.get("/models/<path:model_id>/info")
def show_info(path: ModelPath) -> Response:
    """Describe the model at its address."""
    return _build_info(_find_model(path))


@bp.get("/status/<path:model_id>")
def show_status(path: ModelPath) -> Response:
    """Report whether a model is loaded, in the form of the Inference API of 2024."""
    model = _find_model(path)
    state = "Loaded" if _is_loaded(model) else "Loadable"
    return jsonify(loaded=_is_loaded(model), state=state, compute_type=model.compute_type, framework="transformers")


def _find_model(path: ModelPath) -> ModelStatus:
    return get_gateway().models.find(path.model_id.strip("/"))


def _is_loaded(model: ModelStatus) -> bool:
    return model.state is ModelState.READY


def _build_info(model: ModelStatus) -> Response:
    return jsonify(
        model_id=model.id,
        model_sha=model.revision,
        task="image-segmentation",
        state=model.state,
        compute_type=model.compute_type,
        server="maskmill",
        version=__version__,
    )
