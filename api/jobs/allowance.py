"""What a token lets its jobs have: a priority at most, and models."""

from dataclasses import dataclass

from shared.errors import ModelNotAllowed, PriorityNotAllowed
from shared.jobs.model import Priority

_ORDER = tuple(Priority)


@dataclass(frozen=True, slots=True)
class Allowance:
    """priority: the highest one.  models: public ids; None: all."""

    priority: Priority = Priority.INTERACTIVE
    models: frozenset[str] | None = None

    def choose_priority(self, asked: Priority | None, usual: Priority) -> Priority:
        """Return the priority of a job: the one that was asked for, or the usual one as far as it is allowed.

        Raises:
            PriorityNotAllowed: a higher one was asked for than is allowed.
        """
        highest = _ORDER.index(self.priority)
        if asked is None:
            return _ORDER[max(highest, _ORDER.index(usual))]
        if _ORDER.index(asked) < highest:
            allowed = ", ".join(_ORDER[highest:])
            raise PriorityNotAllowed(f"This token may not have the priority {asked}; it may have {allowed}.")
        return asked

    def check_model(self, model: str) -> None:
        """Check that a model may be used.

        Raises:
            ModelNotAllowed: it may not.
        """
        if self.models is not None and model not in self.models:
            raise ModelNotAllowed(f"This token may not use this model; it may use {', '.join(sorted(self.models))}.")
