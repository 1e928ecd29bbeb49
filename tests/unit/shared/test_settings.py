"""An invalid setting stops the process with one line."""

import pytest

from shared.settings import RENAMED, Settings, read_settings
from worker.settings import StewardSettings, WorkerSettings


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_is_rejected_with_the_current_one(old: str, new: str) -> None:
    with pytest.raises(SystemExit, match=f"Wrong settings: {old} is now {new}$"):
        read_settings(Settings, {old: "1"})


def test_the_current_names_exist() -> None:
    fields = {*WorkerSettings.model_fields, *StewardSettings.model_fields}

    assert {new.removeprefix("MASKMILL_").lower() for new in RENAMED.values()} <= fields


def test_an_invalid_value_is_reported_by_name_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_LEASE_SECONDS", "s3cret")

    with pytest.raises(SystemExit, match="Wrong settings: MASKMILL_LEASE_SECONDS: ") as exited:
        read_settings(Settings)
    assert "s3cret" not in str(exited.value)
