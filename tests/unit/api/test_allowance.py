"""What a token lets its jobs have."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.jobs.allowance import Allowance
from shared.errors import ModelNotAllowed, PriorityNotAllowed
from shared.jobs.model import Priority

ORDER = list(Priority)


@given(st.sampled_from(ORDER), st.none() | st.sampled_from(ORDER), st.sampled_from(ORDER))
def test_no_job_has_a_higher_priority_than_its_token(
    highest: Priority, asked: Priority | None, usual: Priority
) -> None:
    allowance = Allowance(highest)
    is_refused = asked is not None and ORDER.index(asked) < ORDER.index(highest)

    if is_refused:
        with pytest.raises(PriorityNotAllowed, match=f"priority {asked}"):
            allowance.choose_priority(asked, usual)
    else:
        chosen = allowance.choose_priority(asked, usual)
        assert ORDER.index(chosen) >= ORDER.index(highest)
        assert chosen in (asked or usual, highest)


def test_without_limits_everything_is_as_asked() -> None:
    for priority in ORDER:
        assert Allowance().choose_priority(priority, Priority.NORMAL) is priority
        assert Allowance().choose_priority(None, priority) is priority
    Allowance().check_model("org/any")


def test_only_listed_models_may_be_used() -> None:
    allowance = Allowance(models=frozenset({"org/one", "org/two"}))

    allowance.check_model("org/two")
    with pytest.raises(ModelNotAllowed, match="org/one, org/two"):
        allowance.check_model("org/three")
