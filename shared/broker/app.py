"""The Celery application: the connection to the broker, and the worker.  README.md gives the reasons.

The job store decides whether a job runs and how often; a message that is delivered twice, or lost, does no harm.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from celery import Celery, Task, bootsteps, signals
from celery.worker.consumer import Tasks
from celery.worker.request import Request
from kombu.entity import Exchange, Queue

from shared.broker.queue_order import SlotOrder, SlotSource
from shared.broker.reconnection import SteadyAmqp
from shared.jobs.model import Priority
from shared.prefixes import build_key_prefix
from shared.redis_client import build_redis_url, build_socket_options, build_tls_options
from shared.settings import Settings

# A poll of some of the queues ends soon, because meanwhile a slot for the others may become free.
LIMITED_POLL_SECONDS = 0.05


class WorkerSlots(SlotSource, Protocol):
    """The slots of a worker; implemented by worker.pipeline.slots.Slots."""

    @property
    def thread_count(self) -> int:
        """Number of threads that can have a slot at the same time."""

    def on_free(self, notify: Callable[[], object]) -> None:
        """Call a function whenever a slot becomes free while its thread goes on."""

    def close(self) -> None:
        """Give out no slot any more."""


class UnacknowledgedRequest(Request):  # type: ignore[misc]
    """A message that was taken without acknowledgement.

    Celery would acknowledge it through the connection that delivered it, and end the worker if that was closed since.
    """

    def acknowledge(self) -> None:
        self.acknowledged = True


class FollowSlots(bootsteps.StartStopStep):  # type: ignore[misc]
    """Shortens each poll of some of the queues, and polls again when a slot becomes free.

    Celery starts it after each connection to the broker.
    """

    requires = (Tasks,)
    slots: WorkerSlots

    def start(self, c: Any) -> None:
        channel, slots = c.task_consumer.channel, self.slots
        start_poll = channel._brpop_start

        def start_limited_poll() -> None:
            is_limited = len(slots.priorities) < len(Priority)
            start_poll(timeout=LIMITED_POLL_SECONDS if is_limited else None)

        channel._brpop_start = start_limited_poll
        slots.on_free(c.pool.wake)


class UnacknowledgedTask(Task):  # type: ignore[misc]
    Request = UnacknowledgedRequest


def make_celery(settings: Settings) -> Celery:
    """Return an app without tasks; nothing is connected yet."""
    timeout = settings.redis_timeout_seconds
    app = Celery(
        "maskmill",
        broker=build_broker_url(settings),
        amqp=SteadyAmqp,
        task_cls=UnacknowledgedTask,
        set_as_current=False,
    )
    app.conf.update(
        task_ignore_result=True,
        task_default_exchange_type="direct",
        task_create_missing_queues=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=timeout,
        broker_transport_options={
            "socket_timeout": timeout,
            "health_check_interval": 30,
            "global_keyprefix": build_key_prefix(settings.redis_prefix),
            **build_socket_options(settings),
        },
        # Without it, kombu accepts every certificate.
        broker_use_ssl=build_tls_options(settings) or None,
        worker_pool="shared.broker.pool:WakingThreadPool",
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
    )
    return app


def build_broker_url(settings: Settings) -> str:
    """Return the URL of Redis as Celery writes it: a Unix socket differs."""
    parts = urlsplit(build_redis_url(settings))
    if parts.scheme != "unix":
        return parts.geturl()
    database = dict(parse_qsl(parts.query)).get("db", "0")
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def consume(app: Celery, *, queues: Iterable[str], slots: WorkerSlots, name: str) -> None:
    """Run Celery's worker in this process, on threads, until SIGTERM; running jobs finish then."""
    app.steps["consumer"].add(type("FollowSlots", (FollowSlots,), {"slots": slots}))
    signals.worker_shutting_down.connect(partial(_close, slots), weak=False)
    app.conf.broker_transport_options["queue_order_strategy"] = partial(SlotOrder, slots)
    run_threads(app, queues=queues, thread_count=slots.thread_count, name=name)


def run_threads(app: Celery, *, queues: Iterable[str], thread_count: int, name: str) -> None:
    """Run Celery's worker in this process until SIGTERM, a message of any queue on each thread that is free.

    Args:
        name: must differ from worker to worker.
    """
    # A receiver of this signal keeps Celery from configuring logging in its own way.
    signals.setup_logging.connect(_keep_logging)
    names = list(queues)
    app.conf.task_queues = [_build_queue(name) for name in names]
    app.worker_main(
        [
            "--quiet",
            "worker",
            f"--concurrency={thread_count}",
            f"--queues={','.join(names)}",
            f"--hostname={name}",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
        ]
    )


def _build_queue(name: str) -> Queue:
    # no_ack: the job store knows the running jobs, so the broker need not keep a list of unacknowledged messages.
    return Queue(name, Exchange(name), name, no_ack=True)  # type: ignore[no-untyped-call]


def _close(slots: WorkerSlots, **_: Any) -> None:
    slots.close()


def _keep_logging(**_: Any) -> None:
    pass
