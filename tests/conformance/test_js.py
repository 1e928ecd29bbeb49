"""@huggingface/inference in versions of three years against the gateway."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.conftest import Placeholders
from tests.conformance.forms import (
    Expected,
    Masks,
    Memoized,
    Reference,
    Rejected,
    RequestRate,
    require_client,
    run_client,
)
from tests.conformance.gateways import BROKEN, FULL, LOADING, SLOW, TOKEN
from tests.conformance.install import CLIENTS, JS_VERSIONS, js_folder
from tests.conformance.outcomes import Outcome, Table

V4, V3, V2 = JS_VERSIONS
FUNCTION, CLIENT, ENDPOINT, CLIENT_WITH_URL = "function", "client", "endpoint", "client with endpointUrl"


# The first test of a version installs it if necessary, and makes all its calls.
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Form:
    """One call.

    via: the object on which it is called.
    seconds: when it is aborted; 0 for never.
    router: the URL that replaces the provider's.
    """

    name: str
    expected: Expected
    url: str = "$stack"
    image: tuple[str, ...] = ("blob", "$folder/photo.jpg", "image/jpeg")
    key: str = "inputs"
    via: str = FUNCTION
    token: str = "none"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    seconds: int = 0
    router: str = ""
    versions: Collection[str] = JS_VERSIONS

    def call(self, version: str) -> dict[str, Any]:
        return {
            "name": self.name,
            "url": self.url,
            "image": self.image,
            "key": "data" if version == V2 else self.key,
            "via": self.via,
            "token": self.token,
            "arguments": self._arguments(version),
            "options": self.options,
            "seconds": self.seconds,
            "router": self.router,
        }

    def _arguments(self, version: str) -> dict[str, Any]:
        arguments = dict(self.arguments)
        if self.via == FUNCTION:
            arguments["accessToken"] = self.token
        if self.via in (FUNCTION, CLIENT) and self.url:
            arguments["endpointUrl"] = self.url
        if version == V2:
            # It queries the Hub for a default model unless it is given one, and does not send its name.
            arguments = {"model": "org/name", **arguments}
        return arguments


def file_form(name: str, file: str, *image_type: str, versions: Collection[str] = JS_VERSIONS) -> Form:
    kind, *content_type = image_type
    return Form(name, Masks(file), image=(kind, f"$folder/{file}", *content_type), versions=versions)


def parameters_form(name: str, **parameters: Any) -> Form:
    return Form(name, Masks(parameters=parameters), arguments={"parameters": parameters}, versions=[V4])


def failing_form(name: str, expected: Rejected, path: str = "", *, file: str = "photo.jpg", token: str = TOKEN) -> Form:
    return Form(name, expected, f"$failing{path}", ("blob", f"$folder/{file}", "image/jpeg"), token=token)


FORMS = [
    file_form("Blob", "photo.jpg", "blob", "image/jpeg"),
    file_form("Blob without a type", "photo.jpg", "blob"),
    file_form("Blob of another type", "photo.png", "blob", "application/json"),
    file_form("ArrayBuffer", "photo.webp", "arrayBuffer"),
    file_form("Uint8Array", "photo.jpg", "bytes", versions=[V3]),
    file_form("base64", "photo.jpg", "base64", versions=[V3]),
    Form("data:", Masks(), key="data", versions=[V3, V2]),
    Form("EXIF 6", Masks("sideways.jpg", {"threshold": 0.3}), "$stack?threshold=0.3", ("blob", "$folder/sideways.jpg")),
    parameters_form("threshold", threshold=0.3),
    parameters_form("mask_threshold", mask_threshold=0.8),
    parameters_form("overlap_mask_area_threshold", overlap_mask_area_threshold=0.9),
    parameters_form("subtask instance", subtask="instance", threshold=0.3),
    parameters_form("subtask semantic", subtask="semantic"),
    parameters_form("threshold 1", threshold=1),
    Form("null parameters", Masks(), arguments={"parameters": {"threshold": None, "subtask": None}}, versions=[V4]),
    # The client drops them silently.
    Form("parameters that are dropped", Masks(), arguments={"parameters": {"threshold": 0.3}}, versions=[V3]),
    Form("?threshold=0.3", Masks(parameters={"threshold": 0.3}), "$stack/?threshold=0.3"),
    Form("client", Masks(), via=CLIENT),
    Form("client.endpoint(url)", Masks(), via=ENDPOINT),
    Form("client with endpointUrl", Masks(), via=CLIENT_WITH_URL, versions=[V4]),
    Form("endpointUrl and model", Masks(), arguments={"model": "org/name"}),
    Form("model is a URL", Masks(), url="", arguments={"model": "$stack"}, versions=[V2]),
    Form(
        "router rewritten by fetch",
        Masks(),
        url="",
        via=CLIENT,
        arguments={"model": "$id"},
        router="$stack",
        versions=[V4, V3],
    ),
    Form("use_cache, wait_for_model", Masks(), options={"use_cache": False, "wait_for_model": True}),
    Form("dont_load_model", Masks(), options={"dont_load_model": True}, versions=[V2]),
    Form("billTo", Masks(), options={"billTo": "org"}, versions=[V4, V3]),
    Form("truncated", Rejected(400, "stops before its end"), image=("blob", "$folder/truncated.jpg")),
    Form("bad subtask", Rejected(400, "subtask must be"), arguments={"parameters": {"subtask": "all"}}, versions=[V4]),
    failing_form("unknown token", Rejected(401, "token"), token="wrong"),
    Form("unknown model", Rejected(404, "org/none is not served"), "$stack/models/org/none"),
    Form("wrong method", Rejected(405, "does not take this method"), "$stack/healthz"),
    failing_form("too large", Rejected(413, "larger than"), file="large.jpg"),
    failing_form("far too large", Rejected(413, "larger than"), file="huge.jpg"),
    failing_form("full queue", Rejected(429, "Too many"), f"/models/{FULL}"),
    failing_form("broken model", Rejected(500, "model broke"), f"/models/{BROKEN}"),
    failing_form("past the deadline", Rejected(504, "no result within"), f"/models/{SLOW}"),
    # These clients repeat a request that got a 503 at once, without end.
    Form("no worker, 5 s", RequestRate(2), "$failing", token=TOKEN, seconds=5),
    Form("worker loads, 5 s", RequestRate(2), f"$failing/models/{LOADING}", token=TOKEN, seconds=5),
    Form("no Redis, 5 s", RequestRate(2), "$no_redis", seconds=5),
]
CASES = [
    pytest.param(version, form, id=f"{version}-{form.name}")
    for version in JS_VERSIONS
    for form in FORMS
    if version in form.versions
]


@pytest.fixture(scope="package")
def outcomes(placeholders: Placeholders, tmp_path_factory: pytest.TempPathFactory) -> Memoized:
    """The outcome of every form, by name, for a version; its process runs once."""

    def run_version(version: str) -> Any:
        library = require_client(js_folder) / "node_modules" / f"inference-{version}"
        calls = placeholders.substitute([form.call(version) for form in FORMS if version in form.versions])
        return run_client(["node", CLIENTS / "js" / "inference.cjs", library], calls, tmp_path_factory.mktemp("home"))

    return Memoized(run_version)


@pytest.mark.parametrize(("version", "form"), CASES)
def test_huggingface_inference(
    version: str, form: Form, outcomes: Memoized, reference: Reference, table: Table
) -> None:
    outcome = Outcome.from_report(outcomes(version)[form.name])

    table.record(f"js {version}", form.name, form.expected.describe(outcome))
    form.expected.check(outcome, reference)
