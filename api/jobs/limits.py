"""Bounds that all tenants share, of which each tenant has at most a part."""

from dataclasses import dataclass

from shared.jobs.store import UNBOUNDED


@dataclass(frozen=True, slots=True)
class SharedLimit:
    """total: for all tenants together.  per_tenant: for each of them."""

    total: int
    per_tenant: int


@dataclass(frozen=True, slots=True)
class OptionLimits:
    """Bounds of what a caller may ask for with a job.

    deadline_seconds: the latest deadline, from the submission on.
    metadata_bytes: of `metadata` as compact JSON in UTF-8.
    images: in one form.
    """

    deadline_seconds: float
    metadata_bytes: int
    images: int = 1


def share_limit(total: int, per_tenant: int, *, is_shared: bool) -> SharedLimit:
    """Return a limit from its settings.

    Args:
        per_tenant: 0: half of the total where several tenants may share it, so that no tenant can take all; otherwise
            there is only one tenant, and no bound besides the total.

    >>> share_limit(100, 0, is_shared=True)
    SharedLimit(total=100, per_tenant=50)
    """
    return SharedLimit(total, per_tenant or (max(1, total // 2) if is_shared else UNBOUNDED))
