"""What clients see of workers: nothing of their machines, unless they are operators."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.model_registry import ModelStatus
from api.schemas.models import PUBLIC_REASON, ModelView
from shared.worker_registry import WorkerState, WorkerStatus, public_id

HOST, FOLDER = "gpu-7.corp.example", "/srv/models/secret"
BROKEN = WorkerStatus(
    f"{HOST}-4711-0123456789ab",
    "local/roads",
    WorkerState.SETUP_FAILED,
    reason=f"The model {FOLDER} could not be loaded: no file s3://key:secret@store/x",
)
READY = WorkerStatus(f"{HOST}-4712-0123456789ab", "local/roads", WorkerState.READY, device="cuda:0", revision="r1")


def show(*workers: WorkerStatus, is_operator: bool = False) -> ModelView:
    return ModelView.of(ModelStatus("local/roads", workers), is_operator=is_operator)


def test_a_client_sees_neither_hosts_nor_paths() -> None:
    text = json.dumps(show(BROKEN, READY).model_dump(mode="json"))

    assert [hint for hint in (HOST, "4711", FOLDER, "s3://", "secret") if hint in text] == []
    assert PUBLIC_REASON in text


def test_an_operator_sees_both() -> None:
    broken, ready = show(BROKEN, READY, is_operator=True).workers

    assert (broken.name, broken.reason) == (BROKEN.id, BROKEN.reason)
    assert (ready.name, ready.reason) == (READY.id, "")


def test_the_id_of_a_worker_is_stable_and_its_own() -> None:
    first, second = show(BROKEN, READY).workers

    assert first.id != second.id
    assert [worker.id for worker in show(BROKEN, READY, is_operator=True).workers] == [first.id, second.id]


def test_the_reason_of_a_503_names_no_path() -> None:
    reason = ModelStatus("local/roads", (BROKEN,)).not_ready_reason

    assert FOLDER not in reason
    assert "local/roads" in reason


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ("/srv/models/roads", "local/roads"),
        ("./roads", "local/roads"),
        ("~/models/roads", "local/roads"),
        ("s3://bucket/prefix/roads", "s3/roads"),
        ("file:///srv/models/roads", "file/roads"),
        ("https://user:secret@models.example/v2/roads", "https/roads"),
    ],
)
def test_the_id_of_a_model_is_the_last_part_of_its_path(model: str, shown: str) -> None:
    assert public_id(model) == shown


@given(st.from_regex(r"(s3|https|gs|file)://[a-z0-9.:@/]{0,30}/[a-z]{1,9}", fullmatch=True))
def test_no_address_is_part_of_an_id(model: str) -> None:
    scheme, _, path = model.partition("://")

    assert public_id(model) == f"{scheme}/{path.rsplit('/', 1)[1]}"
