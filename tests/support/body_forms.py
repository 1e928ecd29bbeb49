"""Bodies as clients send them by mistake or by habit: those that are read, and those that are refused by name."""

import base64
import gzip
import json
import textwrap
from collections.abc import Mapping
from urllib.parse import quote

from tests.support.bodies import BASE64, IMAGE, encode_json, encode_noise

MULTIPART = "multipart/form-data"
URLENCODED = "application/x-www-form-urlencoded"

URLSAFE = base64.urlsafe_b64encode(IMAGE).decode()
LINES = textwrap.wrap(BASE64, 76)


def encode_file(content: bytes, *, boundary: str = "XX", head: str = "") -> bytes:
    """Return a form with one file."""
    disposition = 'Content-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    return f"--{boundary}\r\n{head}{disposition}".encode() + content + f"\r\n--{boundary}--\r\n".encode()


_PARAMETERS = '{"threshold": 0.5}'
# Each is a body and its Content-Type.
Forms = Mapping[str, tuple[bytes, str]]
TEXTS: Mapping[str, str] = {
    "url-safe": URLSAFE,
    "url-safe without padding": URLSAFE.rstrip("="),
    "in lines": "\r\n".join(LINES),
    "in lines that are indented": "\n    ".join(LINES),
    "in lines that a shell has joined": " ".join(LINES),
    "with line breaks that were escaped twice": "\\r\\n".join(LINES),
    "with slashes that were escaped twice": BASE64.replace("/", "\\/"),
    "URL-encoded": quote(BASE64, safe=""),
    "URL-encoded in small letters": quote(BASE64, safe="").replace("%2B", "%2b").replace("%2F", "%2f"),
    "Python's text for bytes": str(base64.b64encode(IMAGE)),
    "Python's text for bytes in lines": str(base64.encodebytes(IMAGE)),
    "in quotes": f'"{BASE64}"',
    "a data URL": f"data:image/jpeg;base64,{BASE64}",
    "a data URL, url-safe": f"data:image/jpeg;base64,{URLSAFE}",
    "a data URL, URL-encoded": quote(f"data:image/jpeg;base64,{BASE64}", safe=""),
    "a data URL without a type": f"data:;base64,{BASE64}",
    "a data URL of one word": f"data:base64,{BASE64}",
    "a data URL with a character set": f"data:image/jpeg;charset=utf-8;base64,{BASE64}",
    "a data URL with a parameter behind": f"data:image/jpeg; BASE64; charset=utf-8, {BASE64}",
    "a data URL with a name": f'data:image/jpeg;name="a,b.jpg";base64,{BASE64}',
    "a data URL with a long name": f"data:image/jpeg;name={'a' * 400};base64,{BASE64}",
}
READ: Forms = {
    **{f"JSON, {name}": (encode_json(text), "application/json") for name, text in TEXTS.items()},
    **{f"text, {name}": (text.encode(), "text/plain") for name, text in TEXTS.items()},
    **{f"a file of a form, {name}": (encode_file(text.encode()), MULTIPART) for name, text in TEXTS.items()},
    "a form without a boundary": (encode_file(IMAGE), MULTIPART),
    "a form with another boundary": (encode_file(IMAGE), f"{MULTIPART}; boundary=YY"),
    "a form called JSON": (encode_file(IMAGE), "application/json"),
    "a form without a type": (encode_file(IMAGE, boundary="-" * 24 + "0a'()+_,./:=?"), ""),
    "a form behind a line end": (b"\r\n" + encode_file(IMAGE), MULTIPART),
    "a URL-encoded form": (f"inputs={quote(BASE64, safe='')}&threshold=0.5".encode(), URLENCODED),
    "a URL-encoded form with signs": (f"threshold=0.5&image={BASE64}".encode(), f"{URLENCODED}; charset=utf-8"),
    "a URL-encoded form of a data URL": (f"file={quote(f'data:image/jpeg;base64,{BASE64}')}".encode(), URLENCODED),
    "a URL-encoded form with ends of no field": (f"inputs={quote(BASE64)}&&threshold=0.5&".encode(), URLENCODED),
    "a URL-encoded form with parameters": (
        f"inputs={quote(BASE64)}&parameters={quote(_PARAMETERS)}&model=".encode(),
        URLENCODED,
    ),
    **{
        f"JSON in {encoding}": (encode_json(BASE64).decode().encode(encoding), "application/json")
        for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be")
    },
    "base64 in utf-16": (BASE64.encode("utf-16"), ""),
    "base64 behind a byte order mark": (BASE64.encode("utf-8-sig"), ""),
    "a BMP that looks like a field": (b"BM=x" + encode_noise("BMP")[4:], URLENCODED),
}

_PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>café</body></html>".encode()
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n"
_XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'
NOT_IMAGES: Mapping[str, tuple[bytes, str]] = {
    "a page": (_PAGE, "a page of HTML"),
    "a page behind a byte order mark": (b"\xef\xbb\xbf\n" + _PAGE, "a page of HTML"),
    "a pointer of Git LFS": (_POINTER, "`git lfs pull`"),
    "an XML document": (_XML, "an XML document"),
    "a drawing": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "An SVG drawing"),
    "an error in JSON": (b'{"error": "not found"}', "JSON"),
    "an archive": (b"PK\x03\x04\x14\x00\xff", "A ZIP archive"),
    "a PDF": (b"%PDF-1.7\n%\xff\xff", "A PDF document"),
    "gzip": (gzip.compress(IMAGE), "`Content-Encoding: gzip`"),
}
REFUSED_TEXTS: Mapping[str, tuple[str, str]] = {
    "with blanks for its signs": (BASE64.replace("+", " "), r"blanks where base64 has `\+`"),
    "in lines, with blanks for its signs": ("\n".join(LINES).replace("+", " "), r"blanks where base64 has `\+`"),
    "of both alphabets": (BASE64.replace("+", "-"), "mixes its two alphabets"),
    "of parts that were encoded alone": (BASE64[:40] + "==" + BASE64[40:], "encode the whole file at once"),
    "without a character": (BASE64.rstrip("=")[: 4 * (len(BASE64) // 8) + 1], "a character is missing"),
    "with something else behind": (BASE64.rstrip("=") + "*", "send nothing but base64"),
    "twice": (base64.b64encode(BASE64.encode()).decode(), "encode the image once"),
    "as hexadecimal digits": (IMAGE.hex(), "in hexadecimal digits"),
    "as URL-encoded bytes": (quote(IMAGE), "whose bytes are URL-encoded"),
    "as Python's text for bytes": (str(IMAGE), "Python prints"),
    "as Python's text for an image": ("<PIL.Image.Image image mode=RGB size=40x30 at 0x7F>", "Python prints"),
    "as Python's text for a file": ("<_io.BufferedReader name='cat.jpg'>", "Python prints"),
    "as JavaScript's text for an object": ("[object Object]", "JavaScript prints"),
    "as a data URL without base64": (f"data:image/jpeg,{quote(IMAGE)}", "a data URL without base64"),
    "as a path": ("photos/cat.jpg", "a URL or a path"),
    "as a path for curl": ("@cat.jpg", "a URL or a path"),
    "as a path of Windows": ("C:/Users/José/cat", "a URL or a path"),
    "as a path with backslashes": ("images\\new", "a URL or a path"),
    "as a URL": ("https://example.org/cat.jpg?x=1", "a URL or a path"),
    "as a URL without a scheme": ("www.example.org/cat", "a URL or a path"),
    "as a URL of a page's memory": ("blob:http://localhost/0a1b", "a URL or a path"),
    "as a word": ("null", "the text 'null', no image"),
    "as words": ("hello world", "the text 'hello world', no image"),
}
# Each is a body, its Content-Type, and a pattern that its sentence has.
REFUSED: Mapping[str, tuple[bytes, str, str]] = {
    **{f"the image in JSON {name}": (encode_json(text), "", found) for name, (text, found) in REFUSED_TEXTS.items()},
    **{f"the image as text {name}": (text.encode(), "", found) for name, (text, found) in REFUSED_TEXTS.items()},
    **{f"in base64: {name}": (base64.b64encode(body), "", found) for name, (body, found) in NOT_IMAGES.items()},
    **{f"in a form: {name}": (encode_file(body), MULTIPART, found) for name, (body, found) in NOT_IMAGES.items()},
    **{name: (body, "image/jpeg", found) for name, (body, found) in NOT_IMAGES.items() if not body.startswith(b"{")},
    "an error in JSON": (b'{"error": "not found"}', "", "has no `inputs`"),
    "an empty form": (b"--XX--\r\n", f"{MULTIPART}; boundary=XX", "0 images"),
    "an empty form without a boundary": (b"--XX--\r\n", MULTIPART, "let the HTTP library write it"),
    "a form of another kind": (
        b"--XX\r\nContent-Type: image/jpeg\r\n\r\n" + IMAGE + b"\r\n--XX--\r\n", "multipart/mixed; boundary=XX",
        "let the HTTP library write it",
    ),
    "a form without a byte": (b"", MULTIPART, "The body is empty"),
    "a URL-encoded form without its type": (f"inputs={quote(BASE64)}".encode(), "", URLENCODED),
    "a URL-encoded form without an image": (b"a=b&c=d", URLENCODED, "0 images"),
    "a URL-encoded form of a file's name": (b"inputs=@cat.jpg", URLENCODED, "a URL or a path"),
    "URL-encoded JSON": (quote(encode_json(BASE64)).encode() + b"=", URLENCODED, "URL-encoded JSON"),
    "Python's text for a dict": (str({"inputs": BASE64}).encode(), "", r"`json\.dumps\(\)`"),
    "JSON without quotes": (b"{inputs: '" + BASE64.encode() + b"'}", "", "not in double quotes"),
    "JSON that is escaped for a shell": (b'{\\"inputs\\": \\"' + BASE64.encode() + b'\\"}', "", "escaped"),
    "JSON in JSON": (json.dumps(encode_json(BASE64).decode()).encode(), "", "encoded twice"),
    "a list of JSON": (json.dumps([BASE64]).encode(), "", "a list of JSON"),
    "JSON in half of UTF-16": (encode_json(BASE64).decode().encode("utf-16")[:-1], "", "begins like UTF-16"),
    "JSON in UTF-16 without its zeros": (
        encode_json(BASE64).decode().encode("utf-16").replace(b"\0", b""), "", "--data-binary",
    ),
}  # fmt: skip
