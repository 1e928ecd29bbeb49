"""Finds what a stack listens on, and asks each port without credentials, as a page of a foreign web site could.

Only the standard library, because it also runs in containers:  python - HOST:PORT ... < doors.py
"""

import contextlib
import http.client
import json
import socket
import ssl
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

TIMEOUT_SECONDS = 3.0
MAX_QUESTIONS_AT_ONCE = 8
ORIGIN = "https://evil.example"
_LISTENING = "0A"
# A client that speaks HTTP/2, as gRPC does, opens with this; a server that accepts it replies with a frame of settings.
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS_FRAME = 4

# Paths of the gateway, of a worker's health server, and of SeaweedFS: S3, filer, master, volume server, admin server.
GETS = (
    *("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/jobs", "/v1/models", "/status", "/health"),
    *("/maskmill", "/maskmill?list-type=2", "/maskmill/results/", "/?Action=ListUsers&Version=2010-05-08"),
    *("/buckets/", "/buckets/maskmill/", "/buckets/maskmill/results/?limit=10", "/etc/iam/identity.json"),
    *("/dir/status", "/dir/assign", "/dir/lookup?volumeId=1", "/vol/status", "/vol/grow?count=1", "/cluster/status"),
    *("/ui/index.html", "/stats/disk", "/stats/counter", "/stats/memory", "/debug/pprof/", "/api/config", "/login"),
    *("/1,01637037d6", "/col/delete?collection=absent", "/vol/vacuum", "/raft/stats"),
)
CHANGES = (
    ("PUT", "/maskmill/planted"),
    ("PUT", "/buckets/maskmill/planted"),
    ("PUT", "/planted"),
    ("POST", "/v1/jobs"),
    ("POST", "/submit"),
    ("POST", "/maskmill?delete"),
    ("DELETE", "/maskmill"),
    ("DELETE", "/buckets/maskmill?recursive=true"),
    ("DELETE", "/1,01637037d6"),
    ("POST", "/1,01637037d6"),
)
# What needs no credentials: health, metrics and the description of the API.
OPEN_QUESTIONS = {
    *("GET /health", "GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json"),
    # SeaweedFS's S3 port replies without a body.
    "GET /status",
}
REDIS_COMMANDS = ("PING", "KEYS *", "INFO", "CONFIG GET requirepass", "FLUSHALL")


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that accepts connections or datagrams; `address` is a host, or the path of a Unix socket."""

    kind: str
    address: str
    port: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a port replied to one question: `is_served` unless it refused."""

    question: str
    is_served: bool
    content: str


def find_listeners(pids: Iterable[int]) -> set[Listener]:
    """Return what these processes listen on."""
    inodes = {inode for pid in pids for inode in _find_sockets(pid)}
    tables = {table: (Path("/proc/net") / table).read_text() for table in ("tcp", "tcp6", "udp", "udp6")}
    ports = {
        listener for table, text in tables.items() for inode, listener in parse_ports(table, text) if inode in inodes
    }
    return ports | {listener for inode, listener in _parse_unix(Path("/proc/net/unix").read_text()) if inode in inodes}


def parse_ports(table: str, text: str) -> Iterator[tuple[str, Listener]]:
    """Return the listeners in /proc/net/tcp, tcp6, udp or udp6, each with its inode."""
    for line in text.splitlines():
        fields = line.split()
        if not fields or fields[0] == "sl" or (table.startswith("tcp") and fields[3] != _LISTENING):
            continue
        address, _, port = fields[1].rpartition(":")
        yield fields[9], Listener(table, _parse_address(address), int(port, 16))


def _parse_address(text: str) -> str:
    """Return an address of /proc/net: words of 32 bits, each with its bytes reversed."""
    raw = b"".join(bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8))
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def _parse_unix(text: str) -> Iterator[tuple[str, Listener]]:
    accepts_connections = 0x10000
    for line in text.splitlines()[1:]:
        fields = line.split(maxsplit=7)
        if int(fields[3], 16) & accepts_connections and len(fields) == 8:
            yield fields[6], Listener("unix", fields[7])


def _find_sockets(pid: int) -> Iterator[str]:
    """Return the inodes of the sockets that a process has open."""
    for link in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(link.readlink())
        except FileNotFoundError:
            continue  # it was closed meanwhile
        if target.startswith("socket:["):
            yield target.removeprefix("socket:[").removesuffix("]")


def ask(host: str, port: int) -> list[Answer]:
    """Ask one port in every protocol of the stack, without credentials; a connection that it refuses is no answer."""
    schemes = ["http"] + ["https"] * _speaks_tls(host, port)
    questions: list[Callable[[], Answer | None]] = [
        *(
            partial(_ask_http, host, port, scheme, *each)
            for scheme in schemes
            for each in [*(("GET", path) for path in GETS), *CHANGES]
        ),
        *(partial(_ask_redis, host, port, command) for command in REDIS_COMMANDS),
        *(partial(_ask_grpc, host, port, has_tls=has_tls) for has_tls in (False, True)),
    ]
    # Several at once, because a port that does not know the protocol of a question waits until the client gives up.
    with ThreadPoolExecutor(MAX_QUESTIONS_AT_ONCE) as pool:
        return [answer for answer in pool.map(lambda question: question(), questions) if answer]


def _ask_http(host: str, port: int, scheme: str, method: str, path: str) -> Answer | None:
    if scheme == "http":
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    else:
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=_trust_all())
    body = b"planted" if method in ("PUT", "POST") else None
    try:
        connection.request(method, path, body=body, headers={"Origin": ORIGIN})
        response = connection.getresponse()
        content = response.read(200_000)
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
    return Answer(f"{method} {path}", response.status < 400, content.decode("latin-1"))


def _ask_redis(host: str, port: int, command: str) -> Answer | None:
    content = _exchange(host, port, f"{command}\r\n".encode())
    is_served = content[:1] in (b"+", b"$", b"*", b"%") or content.startswith(b":")
    return Answer(command, is_served, content.decode("latin-1")) if content else None


def _ask_grpc(host: str, port: int, *, has_tls: bool) -> Answer | None:
    content = _exchange(host, port, _HTTP2_PREFACE, has_tls=has_tls)
    return Answer("gRPC", content[3:4] == bytes([_SETTINGS_FRAME]), content.decode("latin-1")) if content else None


def _exchange(host: str, port: int, request: bytes, *, has_tls: bool = False) -> bytes:
    """Send bytes and return the first that come back; none if the connection is closed, or fails."""
    try:
        with contextlib.ExitStack() as stack:
            connection = stack.enter_context(socket.create_connection((host, port), timeout=TIMEOUT_SECONDS))
            if has_tls:
                connection = stack.enter_context(_trust_all("h2").wrap_socket(connection))
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


def _speaks_tls(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=TIMEOUT_SECONDS) as plain, _trust_all().wrap_socket(plain):
            return True
    except OSError:
        return False


def _trust_all(*protocols: str) -> ssl.SSLContext:
    """Return a context of a client that accepts every certificate and has none of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def main() -> None:
    """Print the answers of each HOST:PORT as JSON."""
    targets = [target.rpartition(":") for target in sys.argv[1:]]
    answers = {f"{host}:{port}": [asdict(answer) for answer in ask(host, int(port))] for host, _, port in targets}
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
