"""What the OpenAPI document says of all operations: errors, headers, links, security."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from api.errors import http_status
from api.http.openapi import EVERY_ROUTE, RESULT, SERVER_STATUSES, SUBMISSION, failures
from shared import errors
from shared.errors import (
    DecodersBusy,
    DutyLeaseLost,
    EngineLost,
    FeatureMissing,
    ForeignStack,
    LayoutMismatch,
    MaskmillError,
    ModelUnusable,
    QueueFull,
    SharedMemoryFull,
    Unauthorized,
    UnknownRoute,
    UrlsBusy,
    WrongMethod,
)
from tests.support.gateway import GatewayUnderTest, open_gateway, open_shared_gateway

# Errors that no documented operation answers with: those of other addresses and methods, of the start of a process, and
# of a worker or a steward alone.
NOT_OF_AN_OPERATION = {
    *(UnknownRoute, WrongMethod),
    *(LayoutMismatch, FeatureMissing, ForeignStack),
    *(ModelUnusable, EngineLost, SharedMemoryFull, DecodersBusy, UrlsBusy),
    DutyLeaseLost,
}
PATH_PARAMETER = re.compile(r"{(\w+)}")


@pytest.fixture
def gateway(redis_url: str, storage_env: Mapping[str, str]) -> GatewayUnderTest:
    return open_shared_gateway(redis_url, storage_env)


@pytest.fixture
def document(gateway: GatewayUnderTest) -> dict[str, Any]:
    document: dict[str, Any] = gateway.client.get("/openapi.json").get_json()
    return document


def list_operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_operation_has_the_statuses_of_the_errors_of_every_route(document: dict[str, Any]) -> None:
    common = {str(int(status)) for status in (*map(http_status, EVERY_ROUTE), *SERVER_STATUSES)}

    lacking = {name: common - set(operation["responses"]) for name, operation in named_operations(document)}

    assert {name: statuses for name, statuses in lacking.items() if statuses} == {}


def named_operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, method, operation in list_operations(document):
        yield f"{method} {path}", operation


def test_a_declared_error_gives_its_status_its_code_and_its_headers() -> None:
    responses = failures(QueueFull, Unauthorized)

    assert responses[429]["description"] == "error_type: `queue_full`, `too_many_requests`"
    assert set(responses[429]["headers"]) == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert set(responses[401]["headers"]) == {"WWW-Authenticate"}
    assert responses[401]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorView"}


@pytest.mark.parametrize("kinds", [SUBMISSION, RESULT])
def test_each_declared_code_is_named_at_its_status(kinds: Any) -> None:
    responses = failures(*kinds)

    assert all(f"`{kind.code}`" in responses[http_status(kind)]["description"] for kind in kinds)


def test_every_answer_has_its_request_id(document: dict[str, Any]) -> None:
    answers = [answer for _, operation in named_operations(document) for answer in operation["responses"].values()]

    assert all(answer["headers"]["x-request-id"] == {"$ref": "#/components/headers/RequestId"} for answer in answers)
    assert document["components"]["headers"]["RequestId"]["required"]


def test_every_link_fills_parameters_that_its_operation_has(document: dict[str, Any]) -> None:
    operations = {operation["operationId"]: (path, operation) for path, _, operation in list_operations(document)}
    links = [
        link
        for _, operation in named_operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]

    assert len(links) > 20
    for link in links:
        path, operation = operations[link["operationId"]]
        known = {parameter["name"] for parameter in operation["parameters"]}
        assert set(link["parameters"]) <= known
        assert set(PATH_PARAMETER.findall(path)) <= set(link["parameters"])


def test_every_operation_on_a_job_is_reached_from_its_submission(document: dict[str, Any]) -> None:
    submission = document["paths"]["/v1/jobs"]["post"]["responses"]["202"]["links"]

    of_a_job = {
        operation["operationId"]
        for path, method, operation in list_operations(document)
        if PATH_PARAMETER.findall(path) == ["job_id"] and method != "put"
    }

    assert set(submission) == of_a_job


def test_a_token_is_required_by_the_document_where_the_gateway_requires_one(
    document: dict[str, Any], redis_url: str, storage_env: Mapping[str, str]
) -> None:
    guarded = open_gateway(redis_url, storage_env, tokens="one:secret").client.get("/openapi.json").get_json()

    assert all("security" not in operation for _, operation in named_operations(document))
    assert all(operation["security"] == [{"bearer": []}] for _, operation in named_operations(guarded))


def test_options_names_the_methods_of_the_path(document: dict[str, Any], gateway: GatewayUnderTest) -> None:
    for path in document["paths"]:
        # An address such as /v1/jobs/cancel is that of a job, too.
        patterns = {other: re.compile(PATH_PARAMETER.sub("[^/]+", other)) for other in document["paths"]}
        matching = [other for other, pattern in patterns.items() if pattern.fullmatch(path)]
        methods = {method for other in [path, *matching] for method in document["paths"][other]}
        allowed = gateway.client.options(PATH_PARAMETER.sub("1", path)).headers["Allow"].split(", ")

        expected = {method.upper() for method in methods} | {"OPTIONS"} | ({"HEAD"} if "get" in methods else set())
        # A browser gets a page there, which is no operation of the API.
        assert set(allowed) == (expected | {"GET", "HEAD"} if path == "/" else expected)


def test_options_of_an_unknown_path_names_no_method_but_itself(gateway: GatewayUnderTest) -> None:
    assert gateway.client.options("/v2/nothing/here").headers["Allow"] == "OPTIONS"


def list_kinds(kind: type[MaskmillError] = MaskmillError) -> set[type[MaskmillError]]:
    children = {descendant for child in kind.__subclasses__() for descendant in list_kinds(child)}
    is_own = kind.__module__.startswith(f"{errors.__name__}.")
    return children | ({kind} if is_own and "code" in vars(kind) else set())


def test_every_error_that_an_operation_can_answer_with_is_declared(document: dict[str, Any]) -> None:
    answers = [answer for _, operation in named_operations(document) for answer in operation["responses"].values()]

    declared = {code for answer in answers for code in re.findall(r"`(\w+)`", answer.get("description", ""))}

    assert {kind.code for kind in list_kinds() - NOT_OF_AN_OPERATION} - declared == set()
