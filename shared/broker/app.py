"""The Celery application: the connection to the broker, and the worker.  README.md gives the reasons.

The job store decides whether a job runs and how often; a message that is delivered twice, or lost, does no harm.
"""

from collections.abc import Iterable
from typing import Any

from celery import Celery, Task, signals
from celery.worker.request import Request
from kombu.entity import Exchange, Queue

from shared.settings import Settings


class UnacknowledgedRequest(Request):  # type: ignore[misc]
    """A message that was taken without acknowledgement.

    Celery would acknowledge it through the connection that delivered it, and end the worker if that was closed since.
    """

    def acknowledge(self) -> None:
        self.acknowledged = True


class UnacknowledgedTask(Task):  # type: ignore[misc]
    Request = UnacknowledgedRequest


def make_celery(settings: Settings) -> Celery:
    """Return an app without tasks; nothing is connected yet."""
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
            "queue_order_strategy": "shared.broker.queue_order:PriorityOrder",
        },
        worker_pool="shared.broker.pool:WakingThreadPool",
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
    )
    return app


def consume(app: Celery, *, queues: Iterable[str], threads: int, name: str) -> None:
    """Run Celery's worker in this process, on threads, until SIGTERM; running tasks finish then."""
    # A receiver of this signal keeps Celery from configuring logging in its own way.
    signals.setup_logging.connect(_keep_logging)
    names = list(queues)
    app.conf.task_queues = [_build_queue(name) for name in names]
    app.worker_main(
        [
            "--quiet",
            "worker",
            f"--concurrency={threads}",
            f"--queues={','.join(names)}",
            # Must differ from worker to worker.
            f"--hostname={name}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _build_queue(name: str) -> Queue:
    # no_ack: the job store knows the running jobs, so the broker need not keep a list of unacknowledged messages.
    return Queue(name, Exchange(name), name, no_ack=True)  # type: ignore[no-untyped-call]


def _keep_logging(**_: Any) -> None:
    pass
