"""curl, with the usual options and with wrong ones."""

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.conftest import Placeholders
from tests.conformance.forms import Expected, Masks, Reference, Rejected, require_client
from tests.conformance.install import require_curl
from tests.conformance.outcomes import Outcome, Segment, Table
from tests.conformance.wire import document

IMAGE = "@$folder/photo.jpg"
JSON = "@$folder/request.json"


@dataclass(frozen=True)
class Form:
    name: str
    expected: Expected
    arguments: Sequence[str]
    # With -T curl appends the file's name to a path that ends with a slash.
    path: str = "/predict"


FORMS = [
    Form("--data-binary @f", Masks(), ["--data-binary", IMAGE]),
    Form("--data-binary, image/jpeg", Masks(), ["--data-binary", IMAGE, "-H", "Content-Type: image/jpeg"]),
    Form("--data-binary, application/json", Masks(), ["--data-binary", IMAGE, "-H", "Content-Type: application/json"]),
    Form("--data-binary, no type", Masks(), ["--data-binary", IMAGE, "-H", "Content-Type:"]),
    Form(
        "--data-binary, ?threshold", Masks(parameters={"threshold": 0.3}), ["--data-binary", IMAGE], "/?threshold=0.3"
    ),
    Form("-d '{json}'", Masks(), ["-d", JSON]),
    Form("--json", Masks(), ["--json", JSON]),
    Form("-d '{json}', application/json", Masks(), ["-d", JSON, "-H", "Content-Type: application/json"]),
    Form("-T f -X POST", Masks(), ["-T", "$folder/photo.jpg", "-X", "POST"]),
    Form("-T f", Rejected(405, "does not take this method"), ["-T", "$folder/photo.jpg"]),
    Form("over 1 MB", Masks("heavy.jpg"), ["--data-binary", "@$folder/heavy.jpg"]),
    Form("chunked", Masks(), ["--data-binary", IMAGE, "-H", "Transfer-Encoding: chunked"]),
    Form(
        "chunked, over 1 MB", Masks("heavy.jpg"), ["-T", "$folder/heavy.jpg", "-XPOST", "-HTransfer-Encoding: chunked"]
    ),
    Form("-F file=@f", Masks(), ["-F", f"file={IMAGE}"]),
    Form(
        "-F file=@f -F parameters={}",
        Masks(parameters={"threshold": 0.3}),
        ["-F", f"file={IMAGE}", "-F", 'parameters={"threshold": 0.3}'],
    ),
    Form("--compressed", Masks(), ["--compressed", "--data-binary", IMAGE]),
    Form("-d @f", Rejected(400, "use `curl --data-binary @file`"), ["-d", IMAGE]),
    Form("-d ''", Rejected(400, "empty"), ["-d", ""]),
    Form(
        "snippet with a file's name",
        Rejected(400, "no path is opened"),
        ["-d", '{"inputs":"cats.jpg"}', "-HContent-Type: image/jpeg"],
    ),
]


@pytest.fixture(scope="module")
def body_folder(image_folder: Path, image: bytes) -> Path:
    """The image folder, with a JSON body and a large image."""
    (image_folder / "request.json").write_bytes(document(base64.b64encode(image).decode()))
    # Decoders ignore the bytes after the end of a JPEG.
    (image_folder / "heavy.jpg").write_bytes(image + bytes(1_500_000))
    return image_folder


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_curl(
    form: Form, body_folder: Path, placeholders: Placeholders, reference: Reference, table: Table, tmp_path: Path
) -> None:
    require_client(require_curl)

    outcome = run_curl(
        placeholders.substitute(list(form.arguments)), placeholders.substitute(f"$stack{form.path}"), tmp_path
    )

    table.record("curl", form.name, form.expected.describe(outcome))
    form.expected.check(outcome, reference)


def run_curl(arguments: Sequence[str], url: str, folder: Path) -> Outcome:
    body_file = folder / "body"
    options = ["curl", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60", "--output", str(body_file)]
    written = ["--write-out", "%{http_code} %{content_type} %header{x-request-id}"]
    done = subprocess.run([*options, *written, *arguments, url], capture_output=True, text=True, check=True)
    status, content_type, request_id = done.stdout.split(" ")
    assert content_type == "application/json"
    if status != "200":
        body = json.loads(body_file.read_bytes())
        return Outcome(error=body["error_type"], message=body["error"], status=int(status), request_id=request_id)
    return Outcome(segments=tuple(map(Segment.from_wire, json.loads(body_file.read_bytes()))), request_id=request_id)
