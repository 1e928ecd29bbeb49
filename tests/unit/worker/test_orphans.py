"""Messages count as lost only if they are missing for a whole grace period."""

from worker.steward.orphans import OrphanDetector

QUEUE = "segment.acme/roads.normal"


def observe_all(detector: OrphanDetector, counts: list[int]) -> list[int]:
    """Observe one count a second."""
    return [detector.observe(QUEUE, missing, now=float(second)) for second, missing in enumerate(counts)]


def test_messages_that_stay_missing_are_lost_after_the_grace_period() -> None:
    assert observe_all(OrphanDetector(3), [2, 2, 2, 2]) == [0, 0, 0, 2]


def test_a_message_that_was_taken_just_now_is_not_lost() -> None:
    assert observe_all(OrphanDetector(3), [1, 0, 1, 1, 0, 1]) == [0] * 6


def test_the_least_count_of_the_period_counts() -> None:
    assert observe_all(OrphanDetector(3), [5, 2, 4, 7]) == [0, 0, 0, 2]


def test_lost_messages_are_reported_once_in_each_period() -> None:
    assert observe_all(OrphanDetector(2), [1] * 6) == [0, 0, 1, 0, 0, 1]


def test_queues_are_counted_apart() -> None:
    detector = OrphanDetector(2)
    detector.observe("a", 1, now=0)
    detector.observe("b", 1, now=1)

    assert (detector.observe("a", 1, now=2), detector.observe("b", 1, now=2)) == (1, 0)
