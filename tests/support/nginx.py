"""nginx with the file of deploy/nginx, on loopback: other ports, another certificate, and nothing else."""

import shutil
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path

from deploy.local.processes import Process
from deploy.local.servers import LOOPBACK, free_ports
from tests.support.tls import write_certificate

PROGRAM = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx" / "maskmill.conf"
HOST = "localhost"
PREFIX = "/maskmill"

_MAIN = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/maskmill.conf;
}}
"""


@dataclass(frozen=True)
class Answer:
    """What a client got: its status, headers by names in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Nginx(Process):
    """Passes `https://localhost:{port}/maskmill` on to a gateway on loopback."""

    def __init__(self, folder: Path, gateway_port: int, changes: Mapping[str, str]) -> None:
        """Write the configuration; `changes` are made besides those of ports and of the certificate."""
        assert PROGRAM, "nginx is not installed, and CI must have it"
        (self.port,) = free_ports(1)
        self.certificate, key = write_certificate(folder, HOST, HOST, LOOPBACK)
        text = CONFIGURATION.read_text()
        for old, new in {
            "127.0.0.1:8000": f"{LOOPBACK}:{gateway_port}",
            "listen 443": f"listen {LOOPBACK}:{self.port}",
            "/etc/nginx/maskmill.crt": str(self.certificate),
            "/etc/nginx/maskmill.key": str(key),
            **changes,
        }.items():
            assert old in text, f"{CONFIGURATION} has no {old}"
            text = text.replace(old, new)
        (folder / "maskmill.conf").write_text(text)
        main = folder / "nginx.conf"
        main.write_text(_MAIN.format(folder=folder))
        super().__init__("nginx", [PROGRAM, "-c", str(main), "-e", "stderr"], log=folder / "nginx.log")

    @property
    def url(self) -> str:
        return f"https://{HOST}:{self.port}{PREFIX}"

    def is_ready(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def connect(self) -> HTTPSConnection:
        context = ssl.create_default_context(cafile=self.certificate)
        return HTTPSConnection(HOST, self.port, timeout=60, context=context)

    def ask(
        self, path: str, *, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request; `path` includes the prefix, as it stands in links."""
        with closing(self.connect()) as connection:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            named = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, named, response.read())
