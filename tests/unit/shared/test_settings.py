"""An invalid setting stops the process with one line."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.redis_client import build_redis_url, build_tls_options, connect
from shared.setting_names import RENAMED, SECRETS_DIR
from shared.settings import Settings, read_settings
from tests.support.permissions import deny_reading
from worker.settings import RendererSettings, StewardSettings, WorkerSettings


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_former_name_is_rejected_with_the_current_one(old: str, new: str) -> None:
    with pytest.raises(SystemExit, match=f"Wrong settings: {old} is now {new}$"):
        read_settings(Settings, {old: "1"})


def test_the_current_names_exist() -> None:
    fields = {*WorkerSettings.model_fields, *RendererSettings.model_fields, *StewardSettings.model_fields}

    assert {new.removeprefix("MASKMILL_").lower() for new in RENAMED.values()} <= fields


def test_an_invalid_value_is_reported_by_name_without_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKMILL_LEASE_SECONDS", "s3cret")

    with pytest.raises(SystemExit, match="Wrong settings: MASKMILL_LEASE_SECONDS: ") as exited:
        read_settings(Settings)
    assert "s3cret" not in str(exited.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("rediss://:s3cret@host/0?ssl_cert_reqs=none", r"not supported \(ssl_cert_reqs\)"),
        ("rediss://:s3cret@host/0?ssl_check_hostname=false", r"not supported \(ssl_check_hostname\)"),
        ("redis://:s3cret@host/0?socket_timeout=9&db=1", r"not supported \(db, socket_timeout\)"),
        ("unix:///run/s3cret.sock?virtual_host=1", r"not supported \(virtual_host\)"),
        ("redis+socket:///run/s3cret.sock", "begins with none of redis://, rediss://, unix://"),
        ("unix:/run/s3cret.sock", "begins with none of redis://, rediss://, unix://"),
        ("redis:s3cret", "begins with none of redis://, rediss://, unix://"),
        ("REDISS://:s3cret@host/0?ssl_cert_reqs=none", r"not supported \(ssl_cert_reqs\)"),
        ("sentinel://:s3cret@host", "begins with none of redis://, rediss://, unix://"),
    ],
)
def test_a_url_of_redis_that_its_clients_would_understand_differently_is_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, reason: str
) -> None:
    monkeypatch.setenv("MASKMILL_REDIS_URL", url)

    with pytest.raises(SystemExit, match=f"^Wrong settings: MASKMILL_REDIS_URL: .*{reason}") as exited:
        read_settings(Settings)

    assert "s3cret" not in str(exited.value)
    assert "\n" not in str(exited.value)


@pytest.mark.parametrize(
    ("url", "expected"),
    [("REDISS://Host/0", "rediss://Host/0"), ("Redis://host", "redis://host"), ("UNIX:///Run/x", "unix:///Run/x")],
)
def test_the_scheme_of_a_url_of_redis_may_be_in_capitals(url: str, expected: str) -> None:
    settings = Settings(redis_url=url)

    assert settings.redis_url == expected
    assert bool(build_tls_options(settings)) == expected.startswith("rediss:")
    with connect(settings):
        pass


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"redis_key_file": __file__}, "MASKMILL_REDIS_KEY_FILE: .* a MASKMILL_REDIS_URL with rediss://"),
        ({"redis_url": "rediss://host", "redis_key_file": __file__}, "without MASKMILL_REDIS_CERT_FILE; set both"),
        ({"redis_url": "rediss://host", "redis_ca_file": "/absent"}, "there is no file /absent"),
        ({"redis_url": "rediss://host", "redis_ca_file": __file__}, "holds no certificate"),
    ],
)
def test_files_for_tls_that_would_have_no_effect_are_refused(values: dict[str, str], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Settings(**values)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/0", "redis://:p%2Fw%40@host:6379/0"),
        ("redis://me@host/0", "redis://me:p%2Fw%40@host/0"),
        ("redis://:own@host/0", "redis://:own@host/0"),
        ("unix:///run/redis.sock?db=2", "unix://:p%2Fw%40@/run/redis.sock?db=2"),
    ],
)
def test_the_password_is_part_of_the_url_unless_it_has_one(url: str, expected: str) -> None:
    assert build_redis_url(Settings(redis_url=url, redis_password="p/w@")) == expected


def test_passwords_are_in_no_representation_of_the_settings() -> None:
    settings = Settings(
        redis_url="redis://:s3cret@host/0", redis_password="s3cret", storage_access_key="a", storage_secret_key="s3cret"
    )

    assert "s3cret" not in f"{settings!r} {settings}"
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url="bogus://:s3cret@host/0")
    assert "s3cret" not in str(raised.value)


def test_a_setting_can_be_in_a_file_that_the_environment_overrides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "maskmill_redis_password").write_text("from-the-file\n")
    (tmp_path / "maskmill_storage_access_key").write_text("from-the-file")
    (tmp_path / "maskmill_storage_secret_key").write_text("from-the-file")
    monkeypatch.setenv("MASKMILL_STORAGE_ACCESS_KEY", "from-the-environment")
    monkeypatch.setenv("MASKMILL_STORAGE_SECRET_KEY", "")

    settings = read_settings(Settings, {SECRETS_DIR: str(tmp_path)})

    assert settings.redis_password.get_secret_value() == "from-the-file"
    assert settings.storage_access_key == "from-the-environment"
    # An empty variable is one that is not set.
    assert settings.storage_secret_key.get_secret_value() == "from-the-file"


def test_an_unreadable_file_of_a_setting_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "maskmill_redis_password"
    file.write_text("s3cret")

    with deny_reading(file), pytest.raises(SystemExit) as exited:
        read_settings(Settings, {SECRETS_DIR: str(tmp_path)})

    assert "MASKMILL_SECRETS_DIR: " in str(exited.value)
    assert '"redis_password"' in str(exited.value)
    assert str(exited.value).endswith(": Permission denied")


def test_an_unreadable_folder_of_settings_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "closed" / "secrets"
    folder.mkdir(parents=True)

    with deny_reading(folder.parent), pytest.raises(SystemExit, match=r"secrets' cannot be read: Permission denied$"):
        read_settings(Settings, {SECRETS_DIR: str(folder)})


def test_a_file_of_a_setting_that_is_no_text_is_one_line_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "maskmill_redis_password").write_bytes(b"s3cret\xff")

    with pytest.raises(SystemExit) as exited:
        read_settings(Settings, {SECRETS_DIR: str(tmp_path)})

    assert str(exited.value).endswith('"redis_password" from source "SecretsSettingsSource": UnicodeDecodeError')
    assert "\n" not in str(exited.value)


def test_a_missing_folder_of_settings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^Wrong settings: MASKMILL_SECRETS_DIR: there is no folder"):
        read_settings(Settings, {SECRETS_DIR: str(tmp_path / "absent")})
