"""What each error becomes on the wire: one table from class to status, one shape of body.

The shape is what both families of client show to a person: a plain sentence under `error`, never a list or an object.
"""

from collections.abc import Mapping
from http import HTTPStatus

import structlog
from flask import Flask, Response, g, jsonify, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from shared import errors
from shared.storage.bucket import NoSuchObject

log = structlog.get_logger()

STATUS: Mapping[type[errors.MaskmillError], HTTPStatus] = {
    errors.ClientError: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.UnknownMask: HTTPStatus.NOT_FOUND,
    errors.UnknownRoute: HTTPStatus.NOT_FOUND,
    errors.WrongMethod: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.NotFinished: HTTPStatus.CONFLICT,
    errors.AlreadyEnded: HTTPStatus.CONFLICT,
    errors.Canceled: HTTPStatus.CONFLICT,
    errors.IdempotencyConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.QueueFull: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.MaskmillError: HTTPStatus.INTERNAL_SERVER_ERROR,
}
RETRY_AFTER_SECONDS: Mapping[HTTPStatus, int] = {
    HTTPStatus.TOO_MANY_REQUESTS: 10,
    HTTPStatus.SERVICE_UNAVAILABLE: 5,
}


def status_of(kind: type[errors.MaskmillError]) -> HTTPStatus:
    """Return the status of the nearest ancestor that has one."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def register(app: Flask) -> None:
    """Answer every error of the tree, and every error of the framework, in the one shape."""
    app.register_error_handler(errors.MaskmillError, answer)
    app.register_error_handler(HTTPException, lambda error: answer(_translated(error)))
    app.register_error_handler(Exception, _answer_bug)


def answer(error: errors.MaskmillError) -> Response:
    """Return the response that tells an error."""
    if isinstance(error, NoSuchObject):
        error = errors.UnknownJob("The objects of this job are not stored any more.")
    status = status_of(type(error))
    g.refusal = error.code
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.WorkerFault):
        log.error("request_failed", code=error.code, exc_info=error)
    response = jsonify(error=str(error), error_type=error.code, request_id=g.get("request_id", ""), **error.details)
    response.status_code = status
    _add_headers(response, error)
    return response


def refuse_invalid(error: ValidationError) -> Response:
    """Turn what pydantic found wrong with a path or a query into one sentence.

    Raises:
        BadParameter: always.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or "the request"
    kind = errors.UnknownParameter if first["type"] == "extra_forbidden" else errors.BadParameter
    raise kind(f"The parameter {where} is not valid: {first['msg']}.") from None


def _add_headers(response: Response, error: errors.MaskmillError) -> None:
    seconds = RETRY_AFTER_SECONDS.get(HTTPStatus(response.status_code))
    if seconds is not None:
        response.headers["Retry-After"] = str(seconds)
    if isinstance(error, errors.QueueFull):
        limit = error.details.get("limit", 1)
        response.headers["RateLimit"] = f'"queue";r=0;t={seconds}'
        response.headers["RateLimit-Policy"] = f'"fixed window";"queue";q={limit};w={seconds}'
    if isinstance(error, errors.WrongMethod) and request.routing_exception is not None:
        response.headers["Allow"] = ", ".join(getattr(request.routing_exception, "valid_methods", None) or ())
    if isinstance(error, errors.Unauthorized):
        response.headers["WWW-Authenticate"] = "Bearer"


def _translated(error: HTTPException) -> errors.MaskmillError:
    match error.code:
        case HTTPStatus.NOT_FOUND:
            return errors.UnknownRoute("There is nothing at this address.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            return errors.WrongMethod("This address does not take this method.")
        case HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return errors.BodyTooLarge("The request body is larger than this service takes.")
        case int(code) if code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return errors.UnreadableBody(f"The request cannot be read: {error.name}.")
    return errors.MaskmillError("Something went wrong on our side; the log has it under the request id.")


def _answer_bug(error: Exception) -> Response:
    log.error("request_crashed", exc_info=error)
    return answer(_translated(HTTPException()))
