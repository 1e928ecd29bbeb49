"""Builders of request bodies: a small photo, and JSON and forms with it."""

import base64
import json
import random
from io import BytesIO

from PIL import Image

BOUNDARY = "xxBoundaryxx"
FORM = f"multipart/form-data; boundary={BOUNDARY}"


def encode_noise(kind: str = "JPEG") -> bytes:
    """Return a photo whose base64 has every character."""
    buffer = BytesIO()
    Image.frombytes("RGB", (40, 30), random.Random(5).randbytes(40 * 30 * 3)).save(buffer, kind)
    return buffer.getvalue()


IMAGE = encode_noise()
BASE64 = base64.b64encode(IMAGE).decode()


def encode_json(inputs: object = BASE64, **members: object) -> bytes:
    return json.dumps({"inputs": inputs, **members}).encode()


def encode_form(*parts: tuple[str, bytes, str | None]) -> bytes:
    """Encode parts of (name, content, file name) as multipart/form-data; None is a field that is no file."""
    encoded = b""
    for name, content, filename in parts:
        file = f'; filename="{filename}"' if filename is not None else ""
        header = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
        encoded += header.encode() + content + b"\r\n"
    return encoded + f"--{BOUNDARY}--\r\n".encode()
