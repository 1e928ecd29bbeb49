"""Codes, statuses and headers of the errors."""

import gc
import weakref
from typing import Any, NoReturn

import pytest
from flask import Flask
from pydantic import BaseModel, ConfigDict, ValidationError
from werkzeug.exceptions import MethodNotAllowed

from api.errors import STATUS, http_status, register, reject_invalid
from shared import errors
from shared.errors import ClientError, MaskmillError, Unavailable, UnknownParameter, WorkerFault, build_error
from shared.storage.bucket import NoSuchObject


def leaves(kind: type[MaskmillError]) -> list[type[MaskmillError]]:
    below = [leaf for child in kind.__subclasses__() for leaf in leaves(child)]
    return below or [kind]


def public() -> list[type[MaskmillError]]:
    # Gone and QuotaExceeded are raised themselves, besides what derives from them.
    kinds = {*leaves(MaskmillError), errors.Gone, errors.QuotaExceeded}
    own = (kind for kind in kinds if kind.__module__.startswith(f"{errors.__name__}."))
    return sorted(own, key=lambda kind: kind.__name__)


def test_every_error_has_a_unique_code() -> None:
    kinds = public()

    assert all("code" in vars(kind) for kind in kinds)
    assert len({kind.code for kind in kinds}) == len(kinds)


def test_each_family_has_its_statuses() -> None:
    assert all(400 <= http_status(kind) < 500 for kind in leaves(ClientError))
    assert all(http_status(kind) in {429, 503, 504} for kind in leaves(Unavailable))
    assert all(http_status(kind) == 500 for kind in leaves(WorkerFault))


def test_the_status_table_has_no_redundant_row() -> None:
    for kind, status in STATUS.items():
        inherited = [STATUS[base] for base in kind.__mro__[1:] if base in STATUS]

        assert not inherited or status != inherited[0], f"{kind.__name__} is redundant in the table"


def test_the_tree_in_the_docstring_is_complete() -> None:
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if line.strip().startswith("- ")}

    assert drawn == {kind.__name__ for kind in public()}


@pytest.mark.parametrize("kind", public())
def test_an_error_is_rebuilt_from_its_code(kind: type[MaskmillError]) -> None:
    found = build_error(kind.code, "the message")

    assert (type(found), str(found)) == (kind, "the message")


def test_an_unknown_code_becomes_an_internal_error() -> None:
    assert type(build_error("not_yet_invented", "new")) is MaskmillError


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.UnknownJob(), {}),
        (errors.DeadlineExceeded(), {}),
        (errors.ModelNotReady(), {"Retry-After": "5"}),
        (errors.Unauthorized(), {"WWW-Authenticate": "Bearer"}),
        (errors.WrongMethod(methods={"POST", "OPTIONS"}), {"Allow": "OPTIONS, POST"}),
        (
            errors.QueueFull(limit=7),
            {
                "Retry-After": "10",
                "RateLimit": '"queue";r=0;t=10',
                "RateLimit-Policy": '"fixed window";"queue";q=7;w=10',
            },
        ),
    ],
    ids=lambda value: value.code if isinstance(value, MaskmillError) else "",
)
def test_an_error_carries_its_headers(error: MaskmillError, headers: dict[str, str]) -> None:
    assert error.headers() == headers


def test_a_missing_object_is_answered_as_an_unknown_job() -> None:
    response = request_failing_with(NoSuchObject("there is no such object"))

    assert (response.status_code, response.json["error_type"]) == (404, "unknown_job")


def test_the_error_of_a_wrong_method_is_answered_with_those_allowed() -> None:
    response = request_failing_with(MethodNotAllowed(["POST"]))

    assert (response.status_code, response.json["error_type"]) == (405, "wrong_method")
    assert response.headers["Allow"] == "POST"


def test_an_unexpected_exception_is_answered_without_its_message() -> None:
    response = request_failing_with(RuntimeError("s3cret"))

    assert (response.status_code, response.json["error_type"]) == (500, "internal")
    assert "s3cret" not in response.text


def request_failing_with(error: Exception) -> Any:
    """Return the response of an app whose only route raises this error."""
    app = Flask("test")
    register(app)

    @app.get("/")
    def fail() -> NoReturn:
        raise error

    return app.test_client().get("/")


class Path(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = 1


def test_the_error_names_a_misspelt_parameter() -> None:
    with pytest.raises(ValidationError) as found:
        Path.model_validate({"limt": "5"})

    with pytest.raises(UnknownParameter, match="limt"):
        reject_invalid(found.value)


class Payload:
    """Something whose release can be observed."""


def test_an_answered_error_keeps_nothing_of_its_request() -> None:
    """Its traceback and a variable of a function in it refer to each other here, as they often do."""
    app, released = Flask("test"), list[str]()
    register(app)
    gc.disable()
    try:

        @app.post("/upload")
        def upload() -> NoReturn:
            payload = Payload()
            weakref.finalize(payload, released.append, "payload")
            try:
                raise OSError("the cause")
            except OSError as cause:
                kept = errors.StoreUnavailable("The store is away.")
                raise kept from cause

        app.test_client().post("/upload").close()

        assert released == ["payload"]
    finally:
        gc.enable()
