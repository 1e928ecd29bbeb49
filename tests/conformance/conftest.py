"""Gateways, images, and the table of what each client received for each form of request."""

import functools
import http.server
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlencode

import pytest
from PIL import Image

from deploy.local.stack import Stack
from shared.worker_registry import EMBEDDED_MODEL_ID
from tests.conformance.forms import Reference
from tests.conformance.gateways import MAX_BODY_BYTES, Gateway, run_failing_gateway, run_gateway_without_redis
from tests.conformance.outcomes import Segment, Table
from tests.conformance.wire import post
from tests.support import images

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[TABLE].lines()
    if lines:
        terminalreporter.section("what each client received for each form of request")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[TABLE]


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of valid and invalid images, named as in the forms."""
    folder = tmp_path_factory.mktemp("images")
    astronaut = images.astronaut().resize((256, 256))
    astronaut.save(folder / "photo.png")
    astronaut.save(folder / "photo.webp", quality=90)
    valid = images.jpeg(astronaut)
    for name in ("photo.jpg", "photo"):
        (folder / name).write_bytes(valid)
    (folder / "truncated.jpg").write_bytes(valid[: len(valid) // 2])
    (folder / "text.txt").write_bytes(b"This is not an image.")
    (folder / "sideways.jpg").write_bytes(images.sideways_cat())
    noise = Image.effect_noise((1000, 700), 80).convert("RGB")
    (folder / "large.jpg").write_bytes(images.jpeg(noise))
    assert (folder / "large.jpg").stat().st_size > 2 * MAX_BODY_BYTES
    # More than the buffers between client and gateway hold: the client is still sending when it is rejected.
    (folder / "huge.jpg").write_bytes(valid + bytes(20_000_000))
    return folder


@pytest.fixture(scope="session")
def image(image_folder: Path) -> bytes:
    """A JPEG of 256 x 256 pixels with at least one segment at the default thresholds."""
    return (image_folder / "photo.jpg").read_bytes()


@pytest.fixture(scope="session")
def image_server(image_folder: Path) -> Iterator[str]:
    """The URL of a web server of the image folder, with a wrong Content-Type for every file."""
    handler = functools.partial(_WrongTypeHandler, directory=str(image_folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _WrongTypeHandler(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: Any) -> str:
        return "text/html"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def failing_gateway(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_failing_gateway(tmp_path_factory.mktemp("failing"), stack) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def gateway_without_redis(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with run_gateway_without_redis(tmp_path_factory.mktemp("no-redis"), stack) as gateway:
        yield gateway


@dataclass(frozen=True)
class Placeholders:
    """The values of $stack, $id, $folder and so on in the forms."""

    values: Mapping[str, str]

    def substitute(self, calls: Any) -> Any:
        """Return the calls with every placeholder replaced."""
        return json.loads(Template(json.dumps(calls)).substitute(self.values))


@pytest.fixture(scope="package")
def placeholders(
    stack: Stack, failing_gateway: Gateway, gateway_without_redis: Gateway, image_folder: Path, image_server: str
) -> Placeholders:
    return Placeholders(
        {
            "stack": stack.url,
            "id": EMBEDDED_MODEL_ID,
            "failing": failing_gateway.url,
            "no_redis": gateway_without_redis.url,
            "folder": str(image_folder),
            "image_server": image_server,
        }
    )


@pytest.fixture(scope="package")
def reference(stack: Stack, image_folder: Path) -> Reference:
    """The gateway's response, by file name and parameters, to a plain HTTP request without any client library."""
    cache: dict[str, tuple[Segment, ...]] = {}

    def segments(name: str, parameters: Mapping[str, Any]) -> tuple[Segment, ...]:
        key = json.dumps([name, parameters], sort_keys=True)
        if key not in cache:
            cache[key] = _request_segments(stack, (image_folder / name).read_bytes(), parameters)
        return cache[key]

    return segments


def _request_segments(stack: Stack, image: bytes, parameters: Mapping[str, Any]) -> tuple[Segment, ...]:
    response = post(stack.url, f"/?{urlencode(parameters)}", image)
    assert response.status == 200, response.body
    return response.segments
