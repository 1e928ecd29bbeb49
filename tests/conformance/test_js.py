"""What @huggingface/inference sends, in versions of three years, and what it makes of the answers."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conformance.conftest import Places
from tests.conformance.forms import Expected, Masks, Once, Patience, Reference, Refused, at_hand, drive
from tests.conformance.gateways import BROKEN, FULL, LOADING, SLOW, TOKEN
from tests.conformance.install import CLIENTS, JS_VERSIONS, js_folder
from tests.conformance.outcomes import Outcome, Table

V4, V3, V2 = JS_VERSIONS
FUNCTION, CLIENT, ENDPOINT, CLIENT_WITH_URL = "function", "client", "endpoint", "client with endpointUrl"


# The first test of a version installs it, if that was not done, and makes all its calls.
pytestmark = pytest.mark.timeout(400)


@dataclass(frozen=True)
class Form:
    """One call.  `via` is what it is made on, `seconds` when it is aborted, `router` where its provider's URL leads."""

    name: str
    expected: Expected
    url: str = "$stack"
    image: tuple[str, ...] = ("blob", "$album/photo.jpg", "image/jpeg")
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
            # It asks the Hub which model to take unless it is given one, and sends that nowhere.
            arguments = {"model": "org/name", **arguments}
        return arguments


def of_file(name: str, file: str, *dress: str, versions: Collection[str] = JS_VERSIONS) -> Form:
    kind, *label = dress
    return Form(name, Masks(file), image=(kind, f"$album/{file}", *label), versions=versions)


def of_parameters(name: str, **parameters: Any) -> Form:
    return Form(name, Masks(parameters=parameters), arguments={"parameters": parameters}, versions=[V4])


def of_grim(name: str, expected: Refused, path: str = "", *, file: str = "photo.jpg", token: str = TOKEN) -> Form:
    return Form(name, expected, f"$grim{path}", ("blob", f"$album/{file}", "image/jpeg"), token=token)


FORMS = [
    of_file("Blob", "photo.jpg", "blob", "image/jpeg"),
    of_file("Blob without a type", "photo.jpg", "blob"),
    of_file("Blob of another type", "photo.png", "blob", "application/json"),
    of_file("ArrayBuffer", "photo.webp", "arrayBuffer"),
    of_file("Uint8Array", "photo.jpg", "bytes", versions=[V3]),
    of_file("base64", "photo.jpg", "base64", versions=[V3]),
    Form("data:", Masks(), key="data", versions=[V3, V2]),
    Form("EXIF 6", Masks("sideways.jpg", {"threshold": 0.3}), "$stack?threshold=0.3", ("blob", "$album/sideways.jpg")),
    of_parameters("threshold", threshold=0.3),
    of_parameters("mask_threshold", mask_threshold=0.8),
    of_parameters("overlap_mask_area_threshold", overlap_mask_area_threshold=0.9),
    of_parameters("subtask instance", subtask="instance", threshold=0.3),
    of_parameters("subtask semantic", subtask="semantic"),
    of_parameters("threshold 1", threshold=1),
    Form("null parameters", Masks(), arguments={"parameters": {"threshold": None, "subtask": None}}, versions=[V4]),
    # The client drops them without a word.
    Form("parameters that are lost", Masks(), arguments={"parameters": {"threshold": 0.3}}, versions=[V3]),
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
    Form("truncated", Refused(400, "stops before its end"), image=("blob", "$album/truncated.jpg")),
    Form("bad subtask", Refused(400, "subtask must be"), arguments={"parameters": {"subtask": "all"}}, versions=[V4]),
    of_grim("unknown token", Refused(401, "token"), token="wrong"),
    Form("unknown model", Refused(404, "org/none is not served"), "$stack/models/org/none"),
    Form("wrong method", Refused(405, "does not take this method"), "$stack/healthz"),
    of_grim("too large", Refused(413, "larger than"), file="large.jpg"),
    of_grim("far too large", Refused(413, "larger than"), file="huge.jpg"),
    of_grim("full queue", Refused(429, "Too many"), f"/models/{FULL}"),
    of_grim("broken model", Refused(500, "model broke"), f"/models/{BROKEN}"),
    of_grim("past the deadline", Refused(504, "no result within"), f"/models/{SLOW}"),
    # These clients send a request that got a 503 again at once, and for ever.
    Form("no worker, 5 s", Patience(2), "$grim", token=TOKEN, seconds=5),
    Form("worker loads, 5 s", Patience(2), f"$grim/models/{LOADING}", token=TOKEN, seconds=5),
    Form("no Redis, 5 s", Patience(2), "$blind", seconds=5),
]
CASES = [
    pytest.param(version, form, id=f"{version}-{form.name}")
    for version in JS_VERSIONS
    for form in FORMS
    if version in form.versions
]


@pytest.fixture(scope="package")
def outcomes(places: Places, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What came of every form, by name, for a version; its process is started once."""

    def of_version(version: str) -> Any:
        library = at_hand(js_folder) / "node_modules" / f"inference-{version}"
        calls = places.put_into([form.call(version) for form in FORMS if version in form.versions])
        return drive(["node", CLIENTS / "js" / "inference.cjs", library], calls, tmp_path_factory.mktemp("home"))

    return Once(of_version)


@pytest.mark.parametrize(("version", "form"), CASES)
def test_huggingface_inference(version: str, form: Form, outcomes: Once, reference: Reference, table: Table) -> None:
    outcome = Outcome.of_report(outcomes(version)[form.name])

    table.note(f"js {version}", form.name, form.expected.shown(outcome))
    form.expected.insist(outcome, reference)
