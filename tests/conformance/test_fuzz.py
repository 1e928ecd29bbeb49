"""A thousand malformed bodies: each response is JSON, and none is a 5xx."""

import base64
import http.client
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from io import BytesIO

from PIL import Image

from deploy.local.stack import Stack
from tests.conformance.wire import document

BODIES = 1000
MAX_SECONDS = 60.0
TIMEOUT_SECONDS = 20.0
PATHS = ["/", "/models/maskmill/embedded", "/predict", "/models/org/none", "/?threshold=nan", "/?subtask=x"]
TYPES = [
    "",
    "image/jpeg",
    "application/json",
    "application/octet-stream",
    "text/plain",
    "multipart/form-data; boundary=b",
]


def seeds() -> list[bytes]:
    """Return small bodies of every form; all but the last two are valid."""
    images = [encode_image(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF")]
    text = base64.b64encode(images[0]).decode()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + images[1] + b"\r\n--b--\r\n"
    whole = document(text, parameters={"threshold": 0.5, "subtask": "semantic"}, options={"use_cache": False})
    return [*images, text.encode(), form, whole, b'{"inputs": {"a": [1]}, "parameters": []}', b"--b\r\n\r\n"]


def encode_image(kind: str) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((16, 12), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def truncate(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body))]


def flip_bits(rng: random.Random, body: bytes) -> bytes:
    flipped = bytearray(body)
    for _ in range(rng.randint(1, 16)):
        flipped[rng.randrange(min(len(flipped), 64))] ^= 1 << rng.randrange(8)
    return bytes(flipped)


def insert_bytes(rng: random.Random, body: bytes) -> bytes:
    position = rng.randrange(min(len(body), 64))
    return body[:position] + rng.randbytes(rng.randint(1, 40)) + body[position:]


def random_document(rng: random.Random, _: bytes) -> bytes:
    values = [None, True, -1, 1e400, "", "x" * 300, [], {}, [[]], "\ud800", "http://127.0.0.1:1/", "\u0000"]
    names = ["inputs", "image", "parameters", "model", "options", "threshold", "\u0000"]
    return json.dumps({name: rng.choice(values) for name in rng.sample(names, 3)}).encode()


def random_bytes(rng: random.Random, _: bytes) -> bytes:
    return rng.randbytes(rng.randrange(400))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [
    truncate,
    flip_bits,
    insert_bytes,
    random_document,
    random_bytes,
]


def test_a_thousand_malformed_bodies_get_json_and_no_5xx(stack: Stack) -> None:
    rng = random.Random(20240229)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=TIMEOUT_SECONDS)
    statuses: Counter[int] = Counter()
    valid_bodies = seeds()
    started = time.monotonic()

    for number in range(BODIES):
        body = rng.choice(MUTATIONS)(rng, rng.choice(valid_bodies))
        content_type = rng.choice(TYPES)
        connection.request("POST", rng.choice(PATHS), body, {"Content-Type": content_type} if content_type else {})
        response = connection.getresponse()
        content = json.loads(response.read())
        statuses[response.status] += 1

        assert response.status < 500, (number, body, content)
        assert response.headers.get_content_type() == "application/json"
        assert isinstance(content, list if response.status == 200 else dict)

    connection.close()
    assert time.monotonic() - started < MAX_SECONDS
    assert set(statuses) <= {200, 400, 404, 413, 422}
    assert statuses[400] > BODIES / 2
