"""What huggingface_hub's clients of two years send, each in its own environment, and what they make of the answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from shared.worker_registry import EMBEDDED
from tests.conformance.conftest import Places
from tests.conformance.forms import Expected, Masks, Once, Reference, Refused, Value, at_hand, drive
from tests.conformance.gateways import BROKEN, FULL, LOADING, SLOW, TOKEN
from tests.conformance.install import CLIENTS, HUB_VERSIONS, hub_python
from tests.conformance.outcomes import Outcome, Table

FLAVOURS = ("sync", "async")
WITH_PARAMETERS = "0.29"  # the first version whose image_segmentation() takes them


# The first test of a version installs it, if that was not done, and makes all its calls.
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Form:
    """One call.  `client` and `arguments` are keyword arguments; versions before `since` or from `until` lack it."""

    name: str
    expected: Expected
    client: Mapping[str, Any] = field(default_factory=lambda: at("$stack"))
    arguments: Mapping[str, Any] = field(default_factory=dict)
    image: tuple[str, str] | None = ("bytes", "$album/photo.jpg")
    method: str = "image_segmentation"
    since: str = "0"
    until: str = "99"
    flavours: Collection[str] = FLAVOURS

    def call(self) -> dict[str, Any]:
        # Without a token the client sends the one of the machine, so our examples give it one that is none.
        client = {"token": "none", "timeout": 100, **self.client}
        rest = {"method": self.method, "image": self.image, "arguments": self.arguments}
        return {"name": self.name, "client": client, **rest}

    def is_for(self, version: str, flavour: str) -> bool:
        return _number(self.since) <= _number(version) < _number(self.until) and flavour in self.flavours


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def at(url: str, **more: Any) -> dict[str, Any]:
    return {"model": url, **more}


def of_file(name: str, file: str, *, kind: str = "path") -> Form:
    return Form(name, Masks(Path(file).name), image=(kind, file))


def of_parameters(name: str, **parameters: Any) -> Form:
    return Form(name, Masks(parameters=parameters), arguments=parameters, since=WITH_PARAMETERS)


def of_client(name: str, since: str = "0", until: str = "99", **client: Any) -> Form:
    return Form(name, Masks(), client, since=since, until=until)


def of_address(address: str) -> Form:
    # The client sends to it whatever it is, so one flavour will do.
    return Form(address.replace("$id", "<id>"), Masks(), at(f"$stack{address}"), flavours=["sync"])


def question(name: str, method: str, value: Any, since: str = "0", until: str = "99", **client: Any) -> Form:
    return Form(f"{method}() {name}".strip(), Value(value), client, image=None, method=method, since=since, until=until)


def grim(path: str = "", token: str = TOKEN) -> dict[str, Any]:
    return at(f"$grim{path}", token=token)


INPUTS = [
    Form("bytes", Masks()),
    of_file("Path .jpg", "$album/photo.jpg"),
    of_file("Path .png", "$album/photo.png"),
    of_file("Path .webp", "$album/photo.webp"),
    of_file("Path without extension", "$album/photo"),
    of_file("str .jpg", "$album/photo.jpg", kind="text"),
    of_file("URL of an image", "$images/photo.jpg", kind="text"),
    Form(
        "EXIF 6",
        Masks("sideways.jpg", {"threshold": 0.3}),
        at("$stack?threshold=0.3"),
        image=("path", "$album/sideways.jpg"),
    ),
]
PARAMETERS = [
    of_parameters("threshold", threshold=0.3),
    of_parameters("mask_threshold", mask_threshold=0.8),
    of_parameters("overlap_mask_area_threshold", overlap_mask_area_threshold=0.9),
    of_parameters("subtask panoptic", subtask="panoptic", threshold=0.3),
    of_parameters("subtask instance", subtask="instance", threshold=0.3),
    of_parameters("subtask semantic", subtask="semantic"),
    of_parameters("threshold 1", threshold=1.0),
    Form("?threshold=0.3", Masks(parameters={"threshold": 0.3}), at("$stack/?threshold=0.3")),
    Form("?threshold=1", Masks(parameters={"threshold": 1.0}), at("$stack?threshold=1")),
]
ADDRESSES = [
    Form("model at the call", Masks(), client={}, arguments={"model": "$stack"}),
    of_client("base_url", base_url="$stack"),
    of_client("model and provider", model="$stack", provider="hf-inference", since="0.28"),
    of_client("HF_INFERENCE_ENDPOINT", model="$id", until="0.28"),
    of_address("/models/$id"),
    of_address("/models/$id/"),
    of_address("/hf-inference/models/$id"),
    of_address("/pipeline/image-segmentation/$id"),
    of_address("/models/$id/pipeline/image-segmentation"),
    of_address("/predict"),
]
HEADERS = [
    of_client("token nobody knows", model="$stack", token="hf_unknown"),
    of_client("wrong Content-Type", model="$stack", headers={"content-type": "application/json"}),
    of_client("x-use-cache: 0", model="$stack", headers={"x-use-cache": "0"}),
    of_client("x-wait-for-model: true", model="$stack", headers={"x-wait-for-model": "true"}),
    of_client("bill_to", model="$stack", bill_to="org", since="0.31"),
]
QUESTIONS = [
    question("", "health_check", True, model="$stack", provider="hf-inference", since="0.28"),
    question("of a model", "health_check", True, model="$stack/models/$id", provider="hf-inference", since="0.28"),
    question("", "get_endpoint_info", {"model_id": EMBEDDED}, model="$stack", provider="hf-inference", since="0.28"),
    question(
        "of a model",
        "get_endpoint_info",
        {"model_id": EMBEDDED},
        model="$stack/models/$id",
        provider="hf-inference",
        since="0.28",
    ),
    question("in 0.24", "health_check", True, model="$stack", until="0.28"),
    question("in 0.24", "get_endpoint_info", {"model_id": EMBEDDED}, model="$stack", until="0.28"),
    question(
        "in 0.24",
        "get_model_status",
        {"loaded": True, "state": "Loaded", "framework": "transformers"},
        model="$id",
        until="0.28",
    ),
]
REFUSALS = [
    Form("truncated", Refused(400, "stops before its end"), image=("path", "$album/truncated.jpg")),
    Form("no image", Refused(400, "neither"), image=("path", "$album/text.txt")),
    Form("bad subtask", Refused(400, "subtask must be"), arguments={"subtask": "all"}, since=WITH_PARAMETERS),
    Form("threshold a string", Refused(400, "must be a number"), arguments={"threshold": "0.5"}, since=WITH_PARAMETERS),
    Form("unknown token", Refused(401, "token"), grim(token="wrong")),
    Form("unknown model", Refused(404, "org/none is not served"), at("$stack/models/org/none")),
    Form("unknown address", Refused(404, "nothing at this address"), at("$stack/v0/none")),
    Form("wrong method", Refused(405, "does not take this method"), at("$stack/healthz")),
    Form("too large", Refused(413, "larger than"), grim(), image=("path", "$album/large.jpg")),
    Form("far too large", Refused(413, "larger than"), grim(), image=("path", "$album/huge.jpg")),
    Form("full queue", Refused(429, "Too many"), grim(f"/models/{FULL}")),
    Form("broken model", Refused(500, "model broke"), grim(f"/models/{BROKEN}")),
    # Older ones try again every second, until their timeout; one of them crashes over it.
    Form("no Redis", Refused(503, "job store"), at("$blind"), since=WITH_PARAMETERS),
    Form("no worker", Refused(503, "has no worker"), grim(), since=WITH_PARAMETERS),
    Form("worker loads", Refused(503, "currently loading"), grim(f"/models/{LOADING}"), since=WITH_PARAMETERS),
    Form("past the deadline", Refused(504, "no result within"), grim(f"/models/{SLOW}")),
]
FORMS = [*INPUTS, *PARAMETERS, *ADDRESSES, *HEADERS, *QUESTIONS, *REFUSALS]
CASES = [
    pytest.param(version, flavour, form, id=f"{version}-{flavour}-{form.name}")
    for version in HUB_VERSIONS
    for flavour in FLAVOURS
    for form in FORMS
    if form.is_for(version, flavour)
]


@pytest.fixture(scope="package")
def outcomes(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What came of every form, by flavour and name, for a version; its process is started once."""

    def of_version(version: str) -> Any:
        python = at_hand(lambda: hub_python(version))
        calls = {flavour: [form.call() for form in FORMS if form.is_for(version, flavour)] for flavour in FLAVOURS}
        home, endpoint = tmp_path_factory.mktemp("home"), places.put_into("$stack")
        command = [python, CLIENTS / "hub.py"]
        return drive(command, places.put_into(calls), home, HF_INFERENCE_ENDPOINT=endpoint)

    return Once(of_version)


@pytest.mark.parametrize(("version", "flavour", "form"), CASES)
def test_huggingface_hub(
    version: str, flavour: str, form: Form, outcomes: Once, reference: Reference, table: Table
) -> None:
    outcome = Outcome.of_report(outcomes(version)[flavour][form.name])

    table.note(f"hub {version} {flavour}", form.name, form.expected.shown(outcome))
    form.expected.insist(outcome, reference)
