"""What a worker's metrics say of its batches."""

from prometheus_client import CollectorRegistry

from worker.batching.cost import BatchCost
from worker.batching.policy import DispatchReason
from worker.batching.scheduler import BatchReport
from worker.runtime.metrics import WorkerMetrics


def test_the_learned_cost_of_a_batch_is_a_metric() -> None:
    registry = CollectorRegistry()
    report = BatchReport(
        size=2,
        failed=0,
        pixels=600_000,
        reason=DispatchReason.FULL,
        wait_ms=(1.0, 2.0),
        device_ms=24.0,
        cost=BatchCost((0.02, 0.002, 0.001)),
    )

    WorkerMetrics(registry).batch_completed(report)

    costs = {part: registry.get_sample_value("maskmill_batch_cost_seconds", {"part": part}) for part in PARTS}
    assert costs == {"batch": 0.02, "image": 0.002, "megapixel": 0.001}
    assert registry.get_sample_value("maskmill_batch_images_sum") == 2


PARTS = ("batch", "image", "megapixel")
