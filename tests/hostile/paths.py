"""Hostile paths, job ids and methods."""

from collections.abc import Sequence

from tests.hostile.inputs import HostileInput
from tests.support.images import cat, jpeg

_ID = "0" * 32


def send(name: str, status: int, target: str, *others: int, method: str = "GET") -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), method=method, target=target)


def submit(name: str, status: int, target: str, *others: int, method: str = "POST") -> HostileInput:
    return HostileInput(name, frozenset({status, *others}), method=method, target=target, body=lambda: jpeg(cat()))


INPUTS: Sequence[HostileInput] = (
    send("an id that is not known", 404, f"/v1/jobs/{_ID}"),
    send("an id of capitals", 404, f"/v1/jobs/{'A' * 32}"),
    send("an id of 3,000 digits", 404, f"/v1/jobs/{'0' * 3000}"),
    send("an id of dots", 404, "/v1/jobs/.."),
    send("an id of encoded dots", 404, "/v1/jobs/%2e%2e%2f%2e%2e%2fetc%2fpasswd"),
    send("an id of a zero byte", 404, f"/v1/jobs/{_ID[:-1]}%00"),
    send("an id of a line end", 404, f"/v1/jobs/{_ID}%0d%0aSet-Cookie:a=b"),
    send("an id of a star", 404, "/v1/jobs/*"),
    send("an id of invalid text", 404, "/v1/jobs/%ff%fe"),
    send("an id in other digits", 404, "/v1/jobs/" + "%D9%A0" * 32),
    send("a result of an id of dots", 404, "/v1/jobs/../result"),
    send("a file that is none", 404, f"/v1/jobs/{_ID}/result.json"),
    send("a file of dots", 404, f"/v1/jobs/{_ID}/..%2f..%2fkeys.json"),
    send("a mask of -1", 404, f"/v1/jobs/{_ID}/masks/-1.png"),
    send("a mask of 3,000 digits", 404, f"/v1/jobs/{_ID}/masks/{'9' * 3000}.png", 400),
    send("a mask of other digits", 404, f"/v1/jobs/{_ID}/masks/%D9%A1.png"),
    send("a cancelation of an id that is not known", 404, f"/v1/jobs/{_ID}", method="DELETE"),
    send("a cancelation of all", 405, "/v1/jobs", method="DELETE"),
    send("a model of dots", 404, "/v1/models/../../etc/passwd"),
    send("a model of 3,000 letters", 404, "/v1/models/" + "m" * 3000),
    send("a model of slashes", 404, "/v1/models/" + "/" * 3000, 200),
    send("a model of a URL", 404, "/status/http://169.254.169.254/"),
    submit("an image for a model of dots", 404, "/models/../../../tmp"),
    submit("an image for a model of s3", 404, "/models/s3://bucket/model"),
    submit("an image for a model of a zero byte", 404, "/models/%00"),
    submit("an image for a page", 404, "/nowhere"),
    submit("an image by PUT", 405, "/v1/jobs", method="PUT"),
    submit("an image by PATCH", 405, "/", method="PATCH"),
    send("an unknown page", 404, "/admin"),
    send("a file of the code", 404, "/api/wsgi.py"),
    send("a file of the machine", 404, "/../../../../etc/passwd"),
    send("a file of the static folder", 404, "/static/../settings.py"),
    send("a path of 100 KB", 414, "/" + "a" * 100_000, 400, 431),
    send("a path of percent signs", 404, "/%%%%%%"),
    send("a path that begins like a host", 404, "//evil.example/v1/jobs"),
    submit("an image for a path of slashes", 202, "//v1//jobs//"),
    send("a path of slashes", 405, "/" * 3000, 404),
    send("a method that is none", 405, "/v1/jobs", 400, 404, 501, method="BREW"),
    send("a method of 200 letters", 405, "/v1/jobs", 400, 404, 501, method="A" * 200),
    send("a trace", 405, "/v1/jobs", 400, 501, method="TRACE"),
    send("a tunnel", 405, "/v1/jobs", 400, 404, 501, method="CONNECT"),
    send("a head of a job that is not known", 404, f"/v1/jobs/{_ID}", method="HEAD"),
    send("a post without a body", 400, "/v1/jobs", 411, method="POST"),
)
