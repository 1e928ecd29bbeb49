"""Webhooks: create, list, show, rotate the secret, disable, enable, delete; deliveries, test messages, repetitions."""

from http import HTTPStatus

from flask import Response, jsonify, request, url_for
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel

from api.http.json_bodies import describe_json_body, read_json_body
from api.http.openapi import SECURITY, failures
from api.http.parameters import refuse_query
from api.jobs.webhooks import NewEndpoint, TenantWebhooks
from api.routes.context import get_caller, get_gateway
from api.schemas.webhooks import (
    CreatedWebhookView,
    DeliveriesQuery,
    DeliveryListView,
    DeliveryPath,
    DeliveryView,
    NewWebhook,
    WebhookListView,
    WebhookPath,
    WebhookView,
)
from shared.errors import (
    BodyTooLarge,
    EmptyBody,
    ForbiddenUrl,
    QueueFull,
    StorageUnavailable,
    StoreFull,
    TooManyWebhooks,
    UnknownDelivery,
    UnknownWebhook,
    UnreadableBody,
    UnsupportedCoding,
    UploadsFull,
    WebhookDisabled,
)
from shared.webhooks.endpoint import JobEvent

bp = APIBlueprint(
    "webhooks", __name__, url_prefix="/v1/webhooks", abp_tags=[Tag(name="webhooks")], abp_security=SECURITY
)

_BODY = (EmptyBody, UnreadableBody, UnsupportedCoding, BodyTooLarge, UploadsFull)
_CHANGE = (StorageUnavailable, StoreFull)
_ONE = (UnknownWebhook, *_CHANGE)


@bp.before_request
def check_query() -> None:
    """Refuse a query, which only the list of deliveries takes."""
    if request.endpoint != "webhooks.list_deliveries":
        refuse_query(request.args)


@bp.post(
    "",
    responses={201: CreatedWebhookView, **failures(*_BODY, ForbiddenUrl, TooManyWebhooks, *_CHANGE)},
    openapi_extensions={"requestBody": describe_json_body(NewWebhook)},
)
def create_webhook() -> Response:
    """Create a webhook; its secret is in this answer alone."""
    body = read_json_body(NewWebhook)
    events = tuple(JobEvent) if body.events is None else tuple(one for one in JobEvent if one in body.events)
    wanted = NewEndpoint(body.url, events, body.all_jobs, body.description)
    created = CreatedWebhookView.of(get_webhooks().create(wanted))
    response = build_json(created, HTTPStatus.CREATED)
    response.headers["Location"] = url_for("webhooks.show_webhook", webhook_id=created.id)
    return response


@bp.get("", responses={200: WebhookListView, **failures(StorageUnavailable)})
def list_webhooks() -> Response:
    """List your webhooks."""
    return build_json(WebhookListView(webhooks=[WebhookView.of(one) for one in get_webhooks().list_all()]))


@bp.get("/<webhook_id>", responses={200: WebhookView, **failures(UnknownWebhook, StorageUnavailable)})
def show_webhook(path: WebhookPath) -> Response:
    """Show a webhook, without its secret."""
    return build_json(WebhookView.of(get_webhooks().get(path.webhook_id)))


@bp.delete("/<webhook_id>", responses={204: None, **failures(*_ONE)})
def delete_webhook(path: WebhookPath) -> Response:
    """Delete a webhook and its deliveries; what is pending is not sent."""
    get_webhooks().delete(path.webhook_id)
    return Response(status=HTTPStatus.NO_CONTENT)


@bp.post("/<webhook_id>/rotate", responses={200: CreatedWebhookView, **failures(*_ONE)})
def rotate_secret(path: WebhookPath) -> Response:
    """Make a new secret, which is in this answer alone; messages are signed with the old one, too, for a day."""
    return build_json(CreatedWebhookView.of(get_webhooks().rotate_secret(path.webhook_id)))


@bp.post("/<webhook_id>/disable", responses={200: WebhookView, **failures(*_ONE)})
def disable_webhook(path: WebhookPath) -> Response:
    """Send nothing any more; what is pending is dropped."""
    return build_json(WebhookView.of(get_webhooks().disable(path.webhook_id)))


@bp.post("/<webhook_id>/enable", responses={200: WebhookView, **failures(*_ONE)})
def enable_webhook(path: WebhookPath) -> Response:
    """Send the ends of further jobs again."""
    return build_json(WebhookView.of(get_webhooks().enable(path.webhook_id)))


@bp.post("/<webhook_id>/ping", responses={202: DeliveryView, **failures(*_ONE, WebhookDisabled, QueueFull)})
def ping_webhook(path: WebhookPath) -> Response:
    """Send a test message, `webhook.ping`."""
    return build_json(DeliveryView.of(get_webhooks().ping(path.webhook_id)), HTTPStatus.ACCEPTED)


@bp.get("/<webhook_id>/deliveries", responses={200: DeliveryListView, **failures(UnknownWebhook, StorageUnavailable)})
def list_deliveries(path: WebhookPath, query: DeliveriesQuery) -> Response:
    """List the latest deliveries of a webhook."""
    found = get_webhooks().list_deliveries(path.webhook_id, limit=query.limit)
    return build_json(DeliveryListView(deliveries=[DeliveryView.of(one) for one in found]))


@bp.post(
    "/<webhook_id>/deliveries/<delivery_id>/redeliver",
    responses={202: DeliveryView, **failures(*_ONE, UnknownDelivery, WebhookDisabled)},
)
def redeliver(path: DeliveryPath) -> Response:
    """Send a message again, with the same `webhook-id`."""
    delivery = get_webhooks().redeliver(path.webhook_id, path.delivery_id)
    return build_json(DeliveryView.of(delivery), HTTPStatus.ACCEPTED)


def get_webhooks() -> TenantWebhooks:
    """Return the webhooks of the tenant whose token the request carries."""
    return get_gateway().open_webhooks(get_caller().tenant)


def build_json(view: BaseModel, status: HTTPStatus = HTTPStatus.OK) -> Response:
    response = jsonify(view.model_dump(mode="json"))
    response.status_code = status
    return response
