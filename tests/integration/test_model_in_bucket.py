"""A model's objects in a bucket, mirrored to a folder for keys of any kind."""

import uuid
from collections.abc import Mapping
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from shared.settings import Settings
from shared.storage.bucket import Bucket, open_bucket
from tests.conftest import Storage
from tests.support.environment import get_fields
from worker.engine.model_files import FILE_NAME


@pytest.fixture
def bucket(storage_env: Mapping[str, str]) -> Bucket:
    return open_bucket(Settings(**get_fields(storage_env)))


def put(storage: Storage, bucket_name: str, key: str) -> None:
    """Put an object whose content is its key; some keys are refused by the server itself."""
    with storage.server.client() as client:
        try:
            client.put_object(Bucket=bucket_name, Key=key, Body=key.encode())
        except ClientError:
            return


def test_only_the_files_of_a_model_directly_below_the_prefix_are_fetched(
    storage: Storage, bucket: Bucket, bucket_name: str, tmp_path: Path
) -> None:
    prefix = f"models/{uuid.uuid4().hex}"
    wanted = {"config.json", "model.safetensors", "vocab.txt"}
    other = {"evil.py", ".json", "../up.json", "sub/config.json", "a\\b.json", "..\\c.json", "x.bin", "~"}
    for name in wanted | other:
        put(storage, bucket_name, f"{prefix}/{name}")
    folder = tmp_path / "deep" / "model"
    folder.mkdir(parents=True)

    bucket.download(prefix, folder, FILE_NAME)

    written = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {f"deep/model/{name}" for name in wanted}
    assert (folder / "config.json").read_text() == f"{prefix}/config.json"


def test_an_object_that_is_gone_from_the_bucket_is_gone_from_the_folder(
    storage: Storage, bucket: Bucket, bucket_name: str, tmp_path: Path
) -> None:
    prefix = f"models/{uuid.uuid4().hex}"
    put(storage, bucket_name, f"{prefix}/config.json")
    (tmp_path / "tokenizer_config.json").write_text("{}")

    bucket.download(prefix, tmp_path, FILE_NAME)

    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_link_in_the_folder_is_replaced_and_not_followed(
    storage: Storage, bucket: Bucket, bucket_name: str, tmp_path: Path
) -> None:
    prefix, outside, folder = f"models/{uuid.uuid4().hex}", tmp_path / "outside", tmp_path / "model"
    put(storage, bucket_name, f"{prefix}/config.json")
    folder.mkdir()
    outside.write_text("mine")
    (folder / "config.json").symlink_to(outside)

    bucket.download(prefix, folder, FILE_NAME)

    assert outside.read_text() == "mine"
    assert (folder / "config.json").read_text() == f"{prefix}/config.json"


def test_the_prefix_of_a_stack_does_not_begin_the_keys_of_models(
    storage: Storage, storage_env: Mapping[str, str], bucket_name: str, tmp_path: Path
) -> None:
    bucket = open_bucket(Settings(**get_fields(storage_env), storage_prefix="second"), name=bucket_name)
    prefix = f"models/{uuid.uuid4().hex}"
    put(storage, bucket_name, f"{prefix}/config.json")

    bucket.download(prefix, tmp_path, FILE_NAME)

    assert (tmp_path / "config.json").is_file()
