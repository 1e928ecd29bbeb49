"""huggingface_hub in versions of two years, each in its own environment, against the gateway."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.worker_registry import EMBEDDED_MODEL_ID
from tests.conformance.conftest import Placeholders
from tests.conformance.forms import Expected, Masks, Memoized, Reference, Rejected, Value, require_client, run_client
from tests.conformance.gateways import BROKEN, FULL, LOADING, SLOW, TOKEN
from tests.conformance.install import CLIENTS, HUB_VERSIONS, hub_python
from tests.conformance.outcomes import Outcome, Table

FLAVOURS = ("sync", "async")
WITH_PARAMETERS = "0.29"  # the first version whose image_segmentation() takes them


# The first test of a version installs it if necessary, and makes all its calls.
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Form:
    """One call.  `client` and `arguments` are keyword arguments; only versions in [since, until) have it."""

    name: str
    expected: Expected
    client: Mapping[str, Any] = field(default_factory=lambda: at("$stack"))
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image: tuple[str, str] | None = ("bytes", "$folder/photo.jpg")
    method: str = "image_segmentation"
    since: str = "0"
    until: str = "99"
    flavours: Collection[str] = FLAVOURS

    def call(self) -> dict[str, Any]:
        # Without a token the client sends the one in the user's home, so the README's examples pass a dummy.
        client = {"token": "none", "timeout": 100, **self.client}
        rest = {"method": self.method, "image": self.image, "arguments": self.arguments}
        return {"name": self.name, "client": client, **rest}

    def is_for(self, version: str, flavour: str) -> bool:
        return (
            _parse_version(self.since) <= _parse_version(version) < _parse_version(self.until)
            and flavour in self.flavours
        )


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def at(url: str, **more: Any) -> dict[str, Any]:
    return {"model": url, **more}


def file_form(name: str, file: str, *, kind: str = "path") -> Form:
    return Form(name, Masks(Path(file).name), image=(kind, file))


def parameters_form(name: str, **parameters: Any) -> Form:
    return Form(name, Masks(parameters=parameters), arguments=parameters, since=WITH_PARAMETERS)


def client_form(name: str, since: str = "0", until: str = "99", **client: Any) -> Form:
    return Form(name, Masks(), client, since=since, until=until)


def address_form(address: str) -> Form:
    # The client uses the URL unchanged, so one flavour is enough.
    return Form(address.replace("$id", "<id>"), Masks(), at(f"$stack{address}"), flavours=["sync"])


def info_form(name: str, method: str, value: Any, since: str = "0", until: str = "99", **client: Any) -> Form:
    return Form(f"{method}() {name}".strip(), Value(value), client, image=None, method=method, since=since, until=until)


def at_failing(path: str = "", token: str = TOKEN) -> dict[str, Any]:
    return at(f"$failing{path}", token=token)


INPUTS = [
    Form("bytes", Masks()),
    file_form("Path .jpg", "$folder/photo.jpg"),
    file_form("Path .png", "$folder/photo.png"),
    file_form("Path .webp", "$folder/photo.webp"),
    file_form("Path without extension", "$folder/photo"),
    file_form("str .jpg", "$folder/photo.jpg", kind="text"),
    file_form("URL of an image", "$image_server/photo.jpg", kind="text"),
    Form(
        "EXIF 6",
        Masks("sideways.jpg", {"threshold": 0.3}),
        at("$stack?threshold=0.3"),
        image=("path", "$folder/sideways.jpg"),
    ),
]
PARAMETERS = [
    parameters_form("threshold", threshold=0.3),
    parameters_form("mask_threshold", mask_threshold=0.8),
    parameters_form("overlap_mask_area_threshold", overlap_mask_area_threshold=0.9),
    parameters_form("subtask panoptic", subtask="panoptic", threshold=0.3),
    parameters_form("subtask instance", subtask="instance", threshold=0.3),
    parameters_form("subtask semantic", subtask="semantic"),
    parameters_form("threshold 1", threshold=1.0),
    Form("?threshold=0.3", Masks(parameters={"threshold": 0.3}), at("$stack/?threshold=0.3")),
    Form("?threshold=1", Masks(parameters={"threshold": 1.0}), at("$stack?threshold=1")),
]
ADDRESSES = [
    Form("model at the call", Masks(), client={}, arguments={"model": "$stack"}),
    client_form("base_url", base_url="$stack"),
    client_form("model and provider", model="$stack", provider="hf-inference", since="0.28"),
    client_form("HF_INFERENCE_ENDPOINT", model="$id", until="0.28"),
    address_form("/models/$id"),
    address_form("/models/$id/"),
    address_form("/hf-inference/models/$id"),
    address_form("/pipeline/image-segmentation/$id"),
    address_form("/models/$id/pipeline/image-segmentation"),
    address_form("/predict"),
]
HEADERS = [
    client_form("unknown token, none required", model="$stack", token="hf_unknown"),
    client_form("wrong Content-Type", model="$stack", headers={"content-type": "application/json"}),
    client_form("x-use-cache: 0", model="$stack", headers={"x-use-cache": "0"}),
    client_form("x-wait-for-model: true", model="$stack", headers={"x-wait-for-model": "true"}),
    client_form("bill_to", model="$stack", bill_to="org", since="0.31"),
]
INFO = [
    info_form("", "health_check", True, model="$stack", provider="hf-inference", since="0.28"),
    info_form("of a model", "health_check", True, model="$stack/models/$id", provider="hf-inference", since="0.28"),
    info_form(
        "", "get_endpoint_info", {"model_id": EMBEDDED_MODEL_ID}, model="$stack", provider="hf-inference", since="0.28"
    ),
    info_form(
        "of a model",
        "get_endpoint_info",
        {"model_id": EMBEDDED_MODEL_ID},
        model="$stack/models/$id",
        provider="hf-inference",
        since="0.28",
    ),
    info_form("in 0.24", "health_check", True, model="$stack", until="0.28"),
    info_form("in 0.24", "get_endpoint_info", {"model_id": EMBEDDED_MODEL_ID}, model="$stack", until="0.28"),
    info_form(
        "in 0.24",
        "get_model_status",
        {"loaded": True, "state": "Loaded", "framework": "transformers"},
        model="$id",
        until="0.28",
    ),
]
ERRORS = [
    Form("truncated", Rejected(400, "stops before its end"), image=("path", "$folder/truncated.jpg")),
    Form("no image", Rejected(400, "neither"), image=("path", "$folder/text.txt")),
    Form("bad subtask", Rejected(400, "subtask must be"), arguments={"subtask": "all"}, since=WITH_PARAMETERS),
    Form(
        "threshold a string", Rejected(400, "must be a number"), arguments={"threshold": "0.5"}, since=WITH_PARAMETERS
    ),
    Form("unknown token", Rejected(401, "token"), at_failing(token="wrong")),
    Form("unknown model", Rejected(404, "org/none is not served"), at("$stack/models/org/none")),
    Form("unknown address", Rejected(404, "nothing at this address"), at("$stack/v0/none")),
    Form("wrong method", Rejected(405, "does not take this method"), at("$stack/healthz")),
    Form("too large", Rejected(413, "larger than"), at_failing(), image=("path", "$folder/large.jpg")),
    Form("far too large", Rejected(413, "larger than"), at_failing(), image=("path", "$folder/huge.jpg")),
    Form("full queue", Rejected(429, "Too many"), at_failing(f"/models/{FULL}")),
    Form("broken model", Rejected(500, "model broke"), at_failing(f"/models/{BROKEN}")),
    # Older versions retry every second until their timeout; one of them crashes on it.
    Form("no Redis", Rejected(503, "job store"), at("$no_redis"), since=WITH_PARAMETERS),
    Form("no worker", Rejected(503, "has no worker"), at_failing(), since=WITH_PARAMETERS),
    Form("worker loads", Rejected(503, "currently loading"), at_failing(f"/models/{LOADING}"), since=WITH_PARAMETERS),
    Form("past the deadline", Rejected(504, "no result within"), at_failing(f"/models/{SLOW}")),
]
FORMS = [*INPUTS, *PARAMETERS, *ADDRESSES, *HEADERS, *INFO, *ERRORS]
CASES = [
    pytest.param(version, flavour, form, id=f"{version}-{flavour}-{form.name}")
    for version in HUB_VERSIONS
    for flavour in FLAVOURS
    for form in FORMS
    if form.is_for(version, flavour)
]


@pytest.fixture(scope="package")
def outcomes(placeholders: Placeholders, tmp_path_factory: pytest.TempPathFactory) -> Memoized:
    """The outcome of every form, by flavour and name, for a version; its process runs once."""

    def run_version(version: str) -> Any:
        python = require_client(lambda: hub_python(version))
        calls = {flavour: [form.call() for form in FORMS if form.is_for(version, flavour)] for flavour in FLAVOURS}
        home, endpoint = tmp_path_factory.mktemp("home"), placeholders.substitute("$stack")
        command = [python, CLIENTS / "hub.py"]
        return run_client(command, placeholders.substitute(calls), home, HF_INFERENCE_ENDPOINT=endpoint)

    return Memoized(run_version)


@pytest.mark.parametrize(("version", "flavour", "form"), CASES)
def test_huggingface_hub(
    version: str, flavour: str, form: Form, outcomes: Memoized, reference: Reference, table: Table
) -> None:
    outcome = Outcome.from_report(outcomes(version)[flavour][form.name])

    table.record(f"hub {version} {flavour}", form.name, form.expected.describe(outcome))
    form.expected.check(outcome, reference)
