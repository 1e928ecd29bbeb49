"""The running stack, gateways that refuse, photos, and the table of what every client made of every form."""

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
from shared.worker_registry import EMBEDDED
from tests.conformance.forms import Reference
from tests.conformance.gateways import LARGEST_BODY, Gateway, blind_gateway, grim_gateway
from tests.conformance.outcomes import Segment, Table
from tests.conformance.wire import post
from tests.support import images as photos

TABLE = pytest.StashKey[Table]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TABLE] = Table()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash[TABLE].lines()
    if lines:
        terminalreporter.section("what each client made of each form")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture
def table(request: pytest.FixtureRequest) -> Table:
    return request.config.stash[TABLE]


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of photos, good and bad, as the forms name them."""
    folder = tmp_path_factory.mktemp("album")
    photo = photos.astronaut().resize((256, 256))
    photo.save(folder / "photo.png")
    photo.save(folder / "photo.webp", quality=90)
    good = photos.jpeg(photo)
    for name in ("photo.jpg", "photo"):
        (folder / name).write_bytes(good)
    (folder / "truncated.jpg").write_bytes(good[: len(good) // 2])
    (folder / "text.txt").write_bytes(b"This is not an image.")
    (folder / "sideways.jpg").write_bytes(photos.sideways_cat())
    noise = Image.effect_noise((1000, 700), 80).convert("RGB")
    (folder / "large.jpg").write_bytes(photos.jpeg(noise))
    assert (folder / "large.jpg").stat().st_size > 2 * LARGEST_BODY
    # More than the buffers between client and gateway hold: what is not read of it is still being sent.
    (folder / "huge.jpg").write_bytes(good + bytes(20_000_000))
    return folder


@pytest.fixture(scope="session")
def photo(album: Path) -> bytes:
    """A JPEG of 256 x 256 pixels in which the model finds something by default."""
    return (album / "photo.jpg").read_bytes()


@pytest.fixture(scope="session")
def picture_server(album: Path) -> Iterator[str]:
    """The URL of a web server that hands the album out, every file under a wrong Content-Type."""
    handler = functools.partial(_Mislabelling, directory=str(album))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


class _Mislabelling(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: Any) -> str:
        return "text/html"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="package")
def grim(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with grim_gateway(tmp_path_factory.mktemp("grim"), stack) as gateway:
        yield gateway


@pytest.fixture(scope="package")
def blind(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with blind_gateway(tmp_path_factory.mktemp("blind"), stack) as gateway:
        yield gateway


@dataclass(frozen=True)
class Places:
    """What the forms call $stack, $id, $album and so on."""

    names: Mapping[str, str]

    def put_into(self, calls: Any) -> Any:
        """Return the calls with every name replaced."""
        return json.loads(Template(json.dumps(calls)).substitute(self.names))


@pytest.fixture(scope="package")
def places(stack: Stack, grim: Gateway, blind: Gateway, album: Path, picture_server: str) -> Places:
    return Places(
        {
            "stack": stack.url,
            "id": EMBEDDED,
            "grim": grim.url,
            "blind": blind.url,
            "album": str(album),
            "images": picture_server,
        }
    )


@pytest.fixture(scope="package")
def reference(stack: Stack, album: Path) -> Reference:
    """What the gateway answers for a photo of the album and parameters when nothing stands between it and us."""
    kept: dict[str, tuple[Segment, ...]] = {}

    def segments(name: str, parameters: Mapping[str, Any]) -> tuple[Segment, ...]:
        key = json.dumps([name, parameters], sort_keys=True)
        if key not in kept:
            kept[key] = _ask(stack, (album / name).read_bytes(), parameters)
        return kept[key]

    return segments


def _ask(stack: Stack, image: bytes, parameters: Mapping[str, Any]) -> tuple[Segment, ...]:
    answer = post(stack.url, f"/?{urlencode(parameters)}", image)
    assert answer.status == 200, answer.body
    return answer.segments
