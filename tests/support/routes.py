"""Every route of a gateway, from its own map, so that a test of all routes covers a new one."""

import re
from collections.abc import Iterator

from flask import Flask
from werkzeug.routing import Rule

ARGUMENTS = {"job_id": "0" * 32, "model_id": "maskmill/embedded", "number": 1, "upload_id": "0" * 32, "filename": "a"}
ARGUMENTS |= {"version": "0" * 16, "name": "styles/base.css"}
ARGUMENTS |= {"webhook_id": f"wh_{'0' * 32}", "delivery_id": "msg_a"}


def list_requests(app: Flask) -> Iterator[tuple[str, str, str]]:
    """Yield the method, the path and the endpoint of every route, and of a path that does not exist."""
    for rule in app.url_map.iter_rules():
        for method in sorted(rule.methods or ()):
            yield method, build_path(rule), rule.endpoint
    yield "GET", "/no/such/path", ""
    yield "POST", "/no/such/path", ""
    yield "PUT", "/v1/jobs", ""


def build_path(rule: Rule) -> str:
    path = rule.rule
    for name in rule.arguments:
        path = re.sub(rf"<(\w+:)?{name}>", str(ARGUMENTS[name]), path)
    return path
