"""What the OpenAPI document says beyond single routes: links between operations, headers of responses, security.

Links tell generators of clients and tests which value of an answer is the parameter of which operation.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from api.http import ignored

Document = dict[str, Any]

_REQUEST_ID: Final = {
    "description": "The id of the request in the service's log; the client's own, if it sent a valid one.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"},
}
_STRING: Final = {"schema": {"type": "string"}}
_ACCEPTED: Final = {
    "Location": {"description": "Path of the job.", "required": True, "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds between two polls.", "required": True, "schema": {"type": "integer"}},
}
_APPLIED: Final = {"description": "What of `Prefer` was heeded.", **_STRING}
# An answer with several jobs has neither.
_OF_ONE_JOB: Final = {name: {**header, "required": False} for name, header in _ACCEPTED.items()}
_MASKS: Final = {
    "x-maskmill-job-id": {"description": "The job of this call.", "required": True, **_STRING},
    "x-maskmill-model": {
        "description": "The model that was used, whatever name was given.",
        "required": True,
        **_STRING,
    },
    "x-maskmill-cache": {"required": True, "schema": {"type": "string", "enum": ["hit", "miss", "coalesced"]}},
    "x-compute-type": _STRING,
    "x-compute-time": {"description": "Seconds.", **_STRING},
}
_IGNORED: Final = {
    "description": "What the request gave without effect, by commas: unknown members of JSON; unknown options, as "
    "`options.NAME`; parameters of the query that the body overrides, as `query.NAME`; headers that an option "
    "overrides; `model`, if the path names another.  Percent-encoded, and cut.",
    **_STRING,
}
_SYNCHRONOUS: Final = ("/", "/models/{model_id}")
# Headers of a response by its path, method and status.
_HEADERS: Final[Mapping[tuple[str, str, str], Mapping[str, Any]]] = {
    ("/v1/jobs", "post", "202"): {**_OF_ONE_JOB, "Preference-Applied": _APPLIED},
    ("/v1/jobs", "post", "200"): {"Location": _ACCEPTED["Location"], "Preference-Applied": _APPLIED},
    ("/v1/jobs/{job_id}", "put", "202"): {**_ACCEPTED, "Preference-Applied": _APPLIED},
    ("/v1/jobs/{job_id}", "put", "200"): {"Location": _ACCEPTED["Location"], "Preference-Applied": _APPLIED},
    **{(path, "post", "202"): _ACCEPTED for path in _SYNCHRONOUS},
    **{(path, "post", "200"): _MASKS for path in _SYNCHRONOUS},
    ("/v1/webhooks", "post", "201"): {
        "Location": {"description": "Path of the webhook.", "required": True, **_STRING},
    },
    ("/v1/jobs/{job_id}", "get", "200"): {
        "ETag": {"description": "Changes with the state of the job.", "required": True, **_STRING},
        "Retry-After": {"description": "Seconds until the next poll of a job that is not final.", **_STRING},
    },
}


def complete_document(document: Document, *, requires_token: bool) -> Document:
    """Add links and headers to a document that describes all routes.

    Args:
        requires_token: whether the gateway asks for tokens; otherwise no operation has a security requirement.
    """
    for (path, method, status), headers in _HEADERS.items():
        document["paths"][path][method]["responses"][status].setdefault("headers", {}).update(headers)
    for _, _, operation in _list_operations(document):
        for response in operation["responses"].values():
            response.setdefault("headers", {})["x-request-id"] = {"$ref": "#/components/headers/RequestId"}
        if not requires_token:
            operation.pop("security", None)
    for path in _SYNCHRONOUS:
        for response in document["paths"][path]["post"]["responses"].values():
            response["headers"][ignored.HEADER] = {"$ref": "#/components/headers/Ignored"}
    document["components"]["headers"] = {"RequestId": _REQUEST_ID, "Ignored": _IGNORED}
    _link_jobs(document)
    _link_lists(document)
    _link_webhooks(document)
    return document


def _list_operations(document: Document) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def _link_jobs(document: Document) -> None:
    """Link every answer that names a job to all operations on one job; PUT creates one."""
    for path, method, operation in list(_list_operations(document)):
        if "{job_id}" not in path or "{number}" in path or method == "put":
            continue
        for source in ("/v1/jobs", *_SYNCHRONOUS):
            _add_link(document, (source, "post", "202"), operation, {"job_id": "$response.body#/id"})
        for source in _SYNCHRONOUS:
            job_id = "$response.header.x-maskmill-job-id"
            _add_link(document, (source, "post", "200"), operation, {"job_id": job_id})
        if (path, method) == ("/v1/jobs/{job_id}", "get"):
            _add_link(document, ("/v1/jobs", "get", "200"), operation, {"job_id": "$response.body#/jobs/0/id"})
    mask = document["paths"]["/v1/jobs/{job_id}/masks/{number}.png"]["get"]
    parameters = {"job_id": "$response.body#/id", "number": "$response.body#/segments/0/id"}
    _add_link(document, ("/v1/jobs/{job_id}/result", "get", "200"), mask, parameters)


def _link_lists(document: Document) -> None:
    """Link a list to its next page, and the list of models to the operations on one."""
    jobs = ("/v1/jobs", "get", "200")
    _add_link(document, jobs, document["paths"]["/v1/jobs"]["get"], {"cursor": "$response.body#/next_cursor"})
    for path, method in (("/v1/models/{model_id}", "get"), ("/models/{model_id}", "post")):
        operation = document["paths"][path][method]
        _add_link(document, ("/v1/models", "get", "200"), operation, {"model_id": "$response.body#/models/0/id"})


def _link_webhooks(document: Document) -> None:
    """Link a new webhook to all operations on it, and a test message to its repetition."""
    for path, _, operation in list(_list_operations(document)):
        if "{delivery_id}" in path:
            parameters = {"webhook_id": "$request.path.webhook_id", "delivery_id": "$response.body#/id"}
            _add_link(document, ("/v1/webhooks/{webhook_id}/ping", "post", "202"), operation, parameters)
        elif "{webhook_id}" in path:
            _add_link(document, ("/v1/webhooks", "post", "201"), operation, {"webhook_id": "$response.body#/id"})


def _add_link(
    document: Document, source: tuple[str, str, str], target: Mapping[str, Any], parameters: Mapping[str, str]
) -> None:
    path, method, status = source
    response = document["paths"][path][method]["responses"][status]
    operation_id = target["operationId"]
    response.setdefault("links", {})[operation_id] = {"operationId": operation_id, "parameters": dict(parameters)}
