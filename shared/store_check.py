"""What each process checks of its stores before it uses them, and again once a store answers that did not at start."""

import threading
import time
from collections.abc import Callable

import structlog

from shared.errors import StackUnconfirmed, Unavailable
from shared.layout import check_bucket_layout, check_redis_layout
from shared.redis_client import RedisClient
from shared.settings import Settings
from shared.stack import StackIdentity, locate_bucket
from shared.storage.bucket import Bucket
from shared.storage.features import check_features

log = structlog.get_logger()

_POLL_INTERVAL_SECONDS = 0.5


class StoreCheck:
    """Each check is made until it has succeeded once.  Thread-safe."""

    def __init__(self, client: RedisClient, bucket: Bucket, identity: StackIdentity) -> None:
        self._lock = threading.Lock()
        self._of_redis: list[Callable[[], None]] = [lambda: check_redis_layout(client)]
        self._of_bucket: list[Callable[[], None]] = [
            bucket.check,
            lambda: check_features(bucket),
            lambda: check_bucket_layout(bucket),
        ]
        self._of_both: list[Callable[[], None]] = [identity.check]

    def run(self) -> None:
        """Make the checks that have not succeeded yet; an unavailable store does not keep the other from being checked.

        Raises:
            UnusableStores: this process must not use them.
            StackUnconfirmed: it is not known yet whether another stack uses the bucket.
            Unavailable: a store does not answer.
        """
        with self._lock:
            reasons = [reason for checks in (self._of_redis, self._of_bucket) if (reason := _run_all(checks))]
            if reasons:
                raise reasons[0]
            if reason := _run_all(self._of_both):
                raise reason


def _run_all(checks: list[Callable[[], None]]) -> Unavailable | None:
    """Run checks and drop those that succeed; return why one cannot be made now."""
    try:
        while checks:
            checks[0]()
            del checks[0]
    except Unavailable as error:
        return error
    return None


def check_at_start(check: StoreCheck, *, sleep: Callable[[float], object] = time.sleep) -> bool:
    """Make the checks, and return whether all were made: a process may start before its stores answer.

    Args:
        sleep: waits for some seconds, between two looks at a mark.

    Raises:
        UnusableStores: this process must not use them.
    """
    while True:
        try:
            check.run()
        except StackUnconfirmed:
            sleep(_POLL_INTERVAL_SECONDS)
        except Unavailable as error:
            log.warning("stores_not_checked", reason=str(error), cause=str(error.__cause__ or ""))
            return False
        else:
            return True


def open_store_check(settings: Settings, client: RedisClient, bucket: Bucket) -> StoreCheck:
    """Return the checks of a process with these settings; nothing is sent yet."""
    return StoreCheck(client, bucket, StackIdentity(client, bucket, locate_bucket(settings)))
