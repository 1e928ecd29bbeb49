"""Celery as a transport: how to reach the broker, and how its messages are taken.

Whether a job runs, and how often, is the job store's to say; a message that comes twice, or not at all, is harmless.
"""

from collections.abc import Iterable
from typing import Any

from celery import Celery, Task, signals
from celery.worker.request import Request
from kombu.entity import Exchange, Queue
from kombu.utils.scheduling import priority_cycle

from shared.jobs.model import Priority
from shared.settings import Settings

# How many interactive messages may be taken in a row before the batch queue is looked at first.
INTERACTIVE_IN_A_ROW = 4
# How soon a busy worker notices that a thread is free.
LOOK_SECONDS = 0.005


class InteractiveFirst(priority_cycle):
    """Interactive queues before the others, but for every fifth message, so that batch work is never starved."""

    def __init__(self, it: Any = None) -> None:
        super().__init__(it)  # type: ignore[no-untyped-call]
        self._in_a_row = 0

    def consume(self, n: int) -> list[str]:
        batch_first = self._in_a_row >= INTERACTIVE_IN_A_ROW
        return sorted(self.items, key=lambda queue: queue.endswith(f".{Priority.INTERACTIVE}") == batch_first)[:n]

    def rotate(self, last_used: str) -> None:
        """Note which queue the last message came from."""
        self._in_a_row = self._in_a_row + 1 if last_used.endswith(f".{Priority.INTERACTIVE}") else 0


class UnacknowledgedRequest(Request):  # type: ignore[misc]
    """A message in a worker's hands, of which the broker need not hear again.

    Celery would acknowledge it through the connection it came by, and end the worker if that has been closed meanwhile.
    """

    def acknowledge(self) -> None:
        self.acknowledged = True


class UnacknowledgedTask(Task):  # type: ignore[misc]
    """A task whose messages are gone from the broker once they are taken."""

    Request = UnacknowledgedRequest


def make_celery(settings: Settings) -> Celery:
    """Return an app that is connected to nothing yet and has no tasks."""
    timeout = settings.redis_timeout_seconds
    app = Celery("maskmill", broker=settings.redis_url, task_cls=UnacknowledgedTask, set_as_current=False)
    app.conf.update(
        task_ignore_result=True,
        task_default_exchange_type="direct",
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=timeout,
        broker_transport_options={
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "socket_keepalive": True,
            "health_check_interval": 30,
            "queue_order_strategy": "shared.broker.app:InteractiveFirst",
        },
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
    )
    return app


def consume(app: Celery, *, queues: Iterable[str], threads: int, name: str) -> None:
    """Run Celery in this process, on threads, until SIGTERM; tasks in hand are finished then."""
    # Logging is set up already; without somebody to say so, Celery would do it again in its own way.
    signals.setup_logging.connect(_leave_logging_alone)
    signals.worker_ready.connect(_keep_looking)
    names = list(queues)
    # The job store knows which jobs are in whose hands, so the broker need not keep a second list of messages.
    app.conf.task_queues = [_queue(name) for name in names]
    # The name is of no use but must differ from worker to worker; gossip and events are off, so that Redis is quiet.
    app.worker_main(
        [
            "--quiet",
            "worker",
            "--pool=threads",
            f"--concurrency={threads}",
            f"--queues={','.join(names)}",
            f"--hostname={name}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(name), name, no_ack=True)  # type: ignore[no-untyped-call]


def _leave_logging_alone(**_: Any) -> None:
    pass


def _keep_looking(sender: Any, **_: Any) -> None:
    """Wake Celery's loop often: without prefetching, a task that ends on a thread does not, so that a busy worker would
    take up new messages once a second.  An idle one waits in BRPOP, and is woken by the message itself.
    """
    sender.hub.call_repeatedly(LOOK_SECONDS, _look)


def _look() -> None:
    """Whatever can be taken is taken on the way."""
