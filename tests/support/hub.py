"""A server with the part of the Hugging Face Hub's API by which a client fetches a model."""

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

Commits = Mapping[str, Mapping[str, bytes]]


@dataclass
class Hub:
    """One model: its commits with their files, and what each name of a revision stands for.

    requested: the revisions that clients have asked for.
    """

    model_id: str
    commits: Commits
    names: dict[str, str]
    url: str = ""
    requested: list[str] = field(default_factory=list)

    def find(self, revision: str) -> str | None:
        """Return the commit that a revision means."""
        self.requested.append(revision)
        return self.names.get(revision, revision if revision in self.commits else None)


@contextmanager
def serve_hub(model_id: str, commits: Commits, names: Mapping[str, str]) -> Iterator[Hub]:
    """Serve a model on a free port of loopback."""
    hub = Hub(model_id, commits, dict(names))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            answer(self, hub)

        do_HEAD = do_GET

        def log_message(self, *_arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    path = unquote(request.path.partition("?")[0])
    model = re.escape(hub.model_id)
    if not re.match(rf"/(api/models/)?{model}(/|$)", path):
        return send(request, 404, b"{}", {"X-Error-Code": "RepoNotFound"})
    if found := re.fullmatch(rf"/api/models/{model}(?:/(?:revision|tree)/(.+))?", path):
        return send_listing(request, hub, found[1] or "main", is_tree="/tree/" in path)
    found = re.fullmatch(rf"/{model}/resolve/([^/]+)/(.+)", path)
    commit = hub.find(found[1]) if found else None
    if found is None or commit is None:
        return send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
    content = hub.commits[commit].get(found[2])
    if content is None:
        return send(request, 404, b"{}", {"X-Error-Code": "EntryNotFound"})
    return send(request, 200, content, {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})


def send_listing(request: BaseHTTPRequestHandler, hub: Hub, revision: str, *, is_tree: bool) -> None:
    commit = hub.find(revision)
    if commit is None:
        return send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
    files = hub.commits[commit]
    tree = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0"} for name in files]
    info = {"id": hub.model_id, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
    return send(request, 200, json.dumps(tree if is_tree else info).encode(), {"Content-Type": "application/json"})


def send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body)
