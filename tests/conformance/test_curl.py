"""What curl sends, with the options that people use and those that they should not."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.conftest import Places
from tests.conformance.forms import Expected, Masks, Reference, Refused, at_hand
from tests.conformance.install import insist_on_curl
from tests.conformance.outcomes import Outcome, Segment, Table
from tests.conformance.wire import document

PHOTO = "@$album/photo.jpg"
JSON = "@$album/request.json"


@dataclass(frozen=True)
class Form:
    name: str
    expected: Expected
    arguments: Sequence[str]
    # curl puts the file's name behind an address that ends with a slash when it sends one by -T.
    path: str = "/predict"


FORMS = [
    Form("--data-binary @f", Masks(), ["--data-binary", PHOTO]),
    Form("--data-binary, image/jpeg", Masks(), ["--data-binary", PHOTO, "-H", "Content-Type: image/jpeg"]),
    Form("--data-binary, application/json", Masks(), ["--data-binary", PHOTO, "-H", "Content-Type: application/json"]),
    Form("--data-binary, no type", Masks(), ["--data-binary", PHOTO, "-H", "Content-Type:"]),
    Form(
        "--data-binary, ?threshold", Masks(parameters={"threshold": 0.3}), ["--data-binary", PHOTO], "/?threshold=0.3"
    ),
    Form("-d '{json}'", Masks(), ["-d", JSON]),
    Form("--json", Masks(), ["--json", JSON]),
    Form("-d '{json}', application/json", Masks(), ["-d", JSON, "-H", "Content-Type: application/json"]),
    Form("-T f -X POST", Masks(), ["-T", "$album/photo.jpg", "-X", "POST"]),
    Form("-T f", Refused(405, "does not take this method"), ["-T", "$album/photo.jpg"]),
    Form("over 1 MB", Masks("heavy.jpg"), ["--data-binary", "@$album/heavy.jpg"]),
    Form("chunked", Masks(), ["--data-binary", PHOTO, "-H", "Transfer-Encoding: chunked"]),
    Form(
        "chunked, over 1 MB", Masks("heavy.jpg"), ["-T", "$album/heavy.jpg", "-XPOST", "-HTransfer-Encoding: chunked"]
    ),
    Form("-F file=@f", Masks(), ["-F", f"file={PHOTO}"]),
    Form(
        "-F file=@f -F parameters={}",
        Masks(parameters={"threshold": 0.3}),
        ["-F", f"file={PHOTO}", "-F", 'parameters={"threshold": 0.3}'],
    ),
    Form("--compressed", Masks(), ["--compressed", "--data-binary", PHOTO]),
    Form("-d @f", Refused(400, "use `curl --data-binary @file`"), ["-d", PHOTO]),
    Form("-d ''", Refused(400, "empty"), ["-d", ""]),
    Form(
        "snippet with a file's name",
        Refused(400, "no path is opened"),
        ["-d", '{"inputs":"cats.jpg"}', "-HContent-Type: image/jpeg"],
    ),
]


@pytest.fixture(scope="module")
def bodies(album: Path, photo: bytes) -> Path:
    (album / "request.json").write_bytes(document(base64.b64encode(photo).decode()))
    # Whatever follows a JPEG's end is of no account, save that it has to be sent.
    (album / "heavy.jpg").write_bytes(photo + bytes(1_500_000))
    return album


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_curl(form: Form, bodies: Path, places: Places, reference: Reference, table: Table, tmp_path: Path) -> None:
    at_hand(insist_on_curl)

    outcome = run(places.put_into(list(form.arguments)), places.put_into(f"$stack{form.path}"), tmp_path)

    table.note("curl", form.name, form.expected.shown(outcome))
    form.expected.insist(outcome, reference)


def run(arguments: Sequence[str], url: str, folder: Path) -> Outcome:
    answer = folder / "answer"
    plain = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--output", str(answer)]
    told = ["--write-out", "%{http_code} %{content_type} %header{x-request-id}"]
    done = subprocess.run([*plain, *told, *arguments, url], capture_output=True, text=True, check=True)
    status, content_type, request_id = done.stdout.split(" ")
    assert content_type == "application/json"
    if status != "200":
        body = json.loads(answer.read_bytes())
        return Outcome(error=body["error_type"], told=body["error"], status=int(status), request_id=request_id)
    return Outcome(segments=tuple(map(Segment.of_wire, json.loads(answer.read_bytes()))), request_id=request_id)
