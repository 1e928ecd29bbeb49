"""How a worker reconnects to the broker: at a steady interval, for as long as it takes."""

from typing import Any, ClassVar

from celery.app.amqp import AMQP
from kombu.connection import Connection


class SteadyConnection(Connection):
    """Tries to connect at a fixed interval; kombu's own delay grows by 2 s with each try, to 30 s."""

    retry_interval_seconds: ClassVar[float] = 1.0

    def ensure_connection(self, *args: Any, **options: Any) -> Any:
        """Return this connection as soon as it is established; Celery's consumer calls it at start and after a loss."""
        interval = self.retry_interval_seconds
        steady = {"interval_start": interval, "interval_step": 0, "interval_max": interval}
        return super().ensure_connection(*args, **options | steady)  # type: ignore[no-untyped-call]


class SteadyAmqp(AMQP):  # type: ignore[misc]
    Connection = SteadyConnection
