"""The HTTP response of each error: one table from class to status, one form of body.

Both families of clients display the sentence under `error`, so it is never a list or an object.
"""

import traceback
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, jsonify
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from shared import errors
from shared.storage.bucket import NoSuchObject

log = structlog.get_logger()

STATUS: Mapping[type[errors.MaskmillError], HTTPStatus] = {
    errors.ClientError: HTTPStatus.BAD_REQUEST,
    errors.BodyTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.MetadataTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.UnsupportedCoding: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.ImageTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.ImageTooCostly: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ImageTooNarrow: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unrepresentable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unauthorized: HTTPStatus.UNAUTHORIZED,
    errors.MissingScope: HTTPStatus.FORBIDDEN,
    errors.NotPermitted: HTTPStatus.FORBIDDEN,
    errors.UnknownHost: HTTPStatus.MISDIRECTED_REQUEST,
    errors.ForeignOrigin: HTTPStatus.FORBIDDEN,
    errors.UnknownJob: HTTPStatus.NOT_FOUND,
    errors.Gone: HTTPStatus.GONE,
    errors.UnknownModel: HTTPStatus.NOT_FOUND,
    errors.UnknownMask: HTTPStatus.NOT_FOUND,
    errors.UnknownWebhook: HTTPStatus.NOT_FOUND,
    errors.UnknownDelivery: HTTPStatus.NOT_FOUND,
    errors.UnknownRoute: HTTPStatus.NOT_FOUND,
    errors.WrongMethod: HTTPStatus.METHOD_NOT_ALLOWED,
    errors.NotFinished: HTTPStatus.CONFLICT,
    errors.AlreadyEnded: HTTPStatus.CONFLICT,
    errors.TooManyWebhooks: HTTPStatus.CONFLICT,
    errors.WebhookDisabled: HTTPStatus.CONFLICT,
    errors.Canceled: HTTPStatus.CONFLICT,
    errors.JobExpired: HTTPStatus.CONFLICT,
    errors.ClientIdTaken: HTTPStatus.CONFLICT,
    errors.IdempotencyConflict: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ForbiddenInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InputNotFound: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnknownUpload: HTTPStatus.NOT_FOUND,
    errors.ForbiddenUrl: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UrlRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UrlUnreachable: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UrlTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.RecutUnsupported: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ThresholdBelowFloor: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.AllQueriesNeeded: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.Overloaded: HTTPStatus.TOO_MANY_REQUESTS,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.MaskmillError: HTTPStatus.INTERNAL_SERVER_ERROR,
}


def http_status(kind: type[errors.MaskmillError]) -> HTTPStatus:
    """Return the status of the nearest ancestor that has one."""
    return next(STATUS[base] for base in kind.__mro__ if base in STATUS)


def register(app: Flask) -> None:
    """Register the handlers; errors of the tree, of the framework and unexpected ones get the same form of body."""
    for kind, handler in _HANDLERS.items():
        app.register_error_handler(kind, handler)


def answer(error: errors.MaskmillError) -> Response:
    """Return the response that reports an error: its status, its headers, and the JSON body."""
    status = http_status(type(error))
    g.error_type = error.code
    if status == HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(error, errors.WorkerFault):
        log.error("request_failed", code=error.code, exc_info=error)
    response = jsonify(error=str(error), error_type=error.code, request_id=g.get("request_id", ""), **error.details)
    response.status_code = status
    response.headers.update(error.headers())
    response.call_on_close(partial(release_frames, error))
    return response


def release_frames(error: BaseException) -> None:
    """Clear the local variables of the functions that an error passed through.

    Its traceback often belongs to a cycle of references, which keeps them, and with them an image of megabytes, until
    the garbage collector comes to it.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def reject_invalid(error: ValidationError) -> Response:
    """Report the first violation that pydantic found in a path or a query.

    Raises:
        UnknownParameter: the parameter does not exist.
        BadParameter: any other violation.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or "the request"
    kind = errors.UnknownParameter if first["type"] == "extra_forbidden" else errors.BadParameter
    raise kind(f"The parameter {where} is not valid: {first['msg']}.") from None


def _answer_missing_object(_error: NoSuchObject) -> Response:
    return answer(errors.UnknownJob("The objects of this job are not stored any more."))


def _answer_http_exception(error: HTTPException) -> Response:
    return answer(_from_http_exception(error))


def _answer_unexpected(error: Exception) -> Response:
    log.error("request_crashed", exc_info=error)
    return answer(_internal_error())


_HANDLERS: Mapping[type[Exception], Callable[[Any], Response]] = {
    errors.MaskmillError: answer,
    NoSuchObject: _answer_missing_object,
    HTTPException: _answer_http_exception,
    Exception: _answer_unexpected,
}


def _from_http_exception(error: HTTPException) -> errors.MaskmillError:
    match error:
        case NotFound():
            return errors.UnknownRoute("There is nothing at this address.")
        case MethodNotAllowed():
            return errors.WrongMethod("This address does not take this method.", methods=error.valid_methods or ())
        case RequestEntityTooLarge():
            return errors.BodyTooLarge("The request body is larger than this service takes.")
        case HTTPException(code=int(code)) if code < HTTPStatus.INTERNAL_SERVER_ERROR:
            return errors.UnreadableBody(f"The request cannot be read: {error.name}.")
    return _internal_error()


def _internal_error() -> errors.MaskmillError:
    return errors.MaskmillError("Something went wrong on our side; the log has it under the request id.")
