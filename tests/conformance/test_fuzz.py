"""A thousand bodies that nobody should send: each is answered, in JSON, and none by a fault of ours."""

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
SECONDS = 60.0
PATIENCE_SECONDS = 20.0
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
    """Small bodies of every form, all but the last two in order."""
    images = [encoded(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]
    text = base64.b64encode(images[0]).decode()
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + images[1] + b"\r\n--b--\r\n"
    whole = document(text, parameters={"threshold": 0.5, "subtask": "semantic"}, options={"use_cache": False})
    return [*images, text.encode(), form, whole, b'{"inputs": {"a": [1]}, "parameters": []}', b"--b\r\n\r\n"]


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((16, 12), 60).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def cut(chance: random.Random, body: bytes) -> bytes:
    return body[: chance.randrange(len(body))]


def flip(chance: random.Random, body: bytes) -> bytes:
    flipped = bytearray(body)
    for _ in range(chance.randint(1, 16)):
        flipped[chance.randrange(min(len(flipped), 64))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def splice(chance: random.Random, body: bytes) -> bytes:
    place = chance.randrange(min(len(body), 64))
    return body[:place] + chance.randbytes(chance.randint(1, 40)) + body[place:]


def retype(chance: random.Random, _: bytes) -> bytes:
    values = [None, True, -1, 1e400, "", "x" * 300, [], {}, [[]], "\ud800", "http://127.0.0.1:1/", "\u0000"]
    names = ["inputs", "image", "parameters", "model", "options", "threshold", "\u0000"]
    return json.dumps({name: chance.choice(values) for name in chance.sample(names, 3)}).encode()


def noise(chance: random.Random, _: bytes) -> bytes:
    return chance.randbytes(chance.randrange(400))


MUTATIONS: list[Callable[[random.Random, bytes], bytes]] = [cut, flip, splice, retype, noise]


def test_a_thousand_malformed_bodies_get_json_and_no_5xx(stack: Stack) -> None:
    chance = random.Random(20240229)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=PATIENCE_SECONDS)
    statuses: Counter[int] = Counter()
    models = seeds()
    started = time.monotonic()

    for number in range(BODIES):
        body = chance.choice(MUTATIONS)(chance, chance.choice(models))
        kind = chance.choice(TYPES)
        connection.request("POST", chance.choice(PATHS), body, {"Content-Type": kind} if kind else {})
        response = connection.getresponse()
        answer = json.loads(response.read())
        statuses[response.status] += 1

        assert response.status < 500, (number, body, answer)
        assert response.headers.get_content_type() == "application/json"
        assert isinstance(answer, list if response.status == 200 else dict)

    connection.close()
    assert time.monotonic() - started < SECONDS
    assert set(statuses) <= {200, 400, 404, 413}
    assert statuses[400] > BODIES / 2
