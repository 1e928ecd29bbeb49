"""Settings of the HTTP server: how long its connections may take, and what they may hold."""

from typing import Annotated

from pydantic import Field, field_validator

from api.server.peers import Network, parse_networks
from shared.setting_types import MAX_BYTES, Bytes, Seconds
from shared.settings import Settings

MAX_CONNECTIONS = 1_000_000


class ServerSettings(Settings):
    """A part of ApiSettings."""

    header_timeout_seconds: Seconds = Field(
        10.0, description="How long a client may take to send the head of a request before 408."
    )
    transfer_timeout_seconds: Seconds = Field(
        20.0,
        description="How long an upload, or a response that the client reads, may stand still in all before it is "
        "dropped; it gains time with its bytes.",
    )
    min_transfer_bytes_per_second: Annotated[float, Field(gt=0, le=MAX_BYTES, allow_inf_nan=False)] = Field(
        16_384.0, description="A transfer that keeps this rate may take as long as it needs."
    )
    keep_alive_seconds: Seconds = Field(
        20.0,
        description="How long a connection may be idle between requests; a proxy in front must close its own earlier.",
    )
    linger_seconds: Seconds = Field(
        2.0, description="How long an answered client may take to close, or to send more of a body that was refused."
    )
    max_buffered_bytes: Bytes = Field(
        128 * 1024 * 1024,
        description="Bytes of request bodies that one gateway process holds, and as many of responses that clients "
        "have not read; an upload over it gets 429. A part is kept for small bodies.",
    )
    max_connections: Annotated[int, Field(gt=0, le=MAX_CONNECTIONS)] = Field(
        10_000,
        description="Connections of one gateway process, or fewer if its limit of open files is lower; over it one "
        "without a running request is dropped, the oldest of the address that has the most.",
    )
    max_connections_per_peer: Annotated[int, Field(gt=0, le=MAX_CONNECTIONS)] = Field(
        1000,
        description="Connections without a running request that one address, or one IPv6 /64, may have to a gateway "
        "process, and never more than half of all; over it its oldest is dropped.",
    )
    trusted_proxies: str = Field(
        "",
        description="Addresses or networks of proxies in front, by commas: they are exempt from the bounds of a peer, "
        "and the client's address, the scheme, the name and the path prefix are read from their `X-Forwarded-For`, "
        "`-Proto`, `-Host` and `-Prefix`, of which the last value counts.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, value: str) -> str:
        parse_networks(value)
        return value

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        return parse_networks(self.trusted_proxies)
