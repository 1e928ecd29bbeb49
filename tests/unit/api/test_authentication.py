"""The tenant of a token, and the settings with which the gateway does not start."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.authentication import PUBLIC, build_authenticator
from api.settings import ApiSettings
from shared.errors import Unauthorized

REACHABLE = "0.0.0.0:8000"


def settings(**changes: Any) -> ApiSettings:
    return ApiSettings(**changes)


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_named_token_gives_its_tenant() -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret, lab:other"))

    assert authenticator.authenticate("Bearer s3cret") == "shop"
    assert authenticator.authenticate("bearer other") == "lab"


def test_the_tenant_of_a_bare_token_is_its_digest() -> None:
    authenticator = build_authenticator(settings(tokens="s3cret"))

    assert authenticator.authenticate("Bearer s3cret") == sha256("s3cret")[:16]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic s3cret", "s3cret"])
def test_a_missing_or_unknown_token_is_unauthorized(header: str | None) -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret"))

    with pytest.raises(Unauthorized):
        authenticator.authenticate(header)


@given(st.text(max_size=40))
def test_any_other_header_is_unauthorized(header: str) -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret"))

    if header.lower().split() != ["bearer", "s3cret"]:
        with pytest.raises(Unauthorized):
            authenticator.authenticate(header)


def test_a_tokens_file_holds_digests(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# tokens of the shop\n\nshop:{sha256('old')}  # until May\nshop:{sha256('new').upper()}\n")

    authenticator = build_authenticator(settings(tokens_file=str(file)))

    assert authenticator.authenticate("Bearer old") == authenticator.authenticate("Bearer new") == "shop"


def test_a_plain_token_in_the_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("shop:s3cret\n")

    with pytest.raises(ValueError, match="line 1") as caught:
        build_authenticator(settings(tokens_file=str(file)))
    assert "s3cret" not in str(caught.value)


def test_a_missing_tokens_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS_FILE"):
        build_authenticator(settings(tokens_file=str(tmp_path / "none")))


@pytest.mark.parametrize("word", ["shop:", ":s3cret", "sh/op:s3cret"])
def test_a_malformed_token_stops_the_start_and_is_not_repeated(word: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS") as caught:
        build_authenticator(settings(tokens=word))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "localhost:80", "[::1]:8000", "127.3.2.1:1", "unix:/run/gateway"])
def test_loopback_requires_no_token(bind: str) -> None:
    assert build_authenticator(settings(bind=bind)).authenticate("Bearer unknown") == PUBLIC


@pytest.mark.parametrize("bind", [REACHABLE, "[::]:8000", "10.0.0.7:8000", "gateway.example:80"])
def test_a_reachable_address_without_tokens_stops_the_start(bind: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_AUTH=off"):
        build_authenticator(settings(bind=bind))


def test_tokens_with_auth_off_stop_the_start() -> None:
    with pytest.raises(ValueError, match="drop one of the two"):
        build_authenticator(settings(auth="off", tokens="shop:s3cret"))


def test_auth_on_requires_tokens_even_on_loopback() -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS"):
        build_authenticator(settings(auth="on"))


def test_the_settings_do_not_print_the_tokens() -> None:
    assert "s3cret" not in repr(settings(tokens="shop:s3cret"))
