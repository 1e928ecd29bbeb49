"""Who is let in, as whom, and when the gateway refuses to start."""

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


def test_a_token_stands_for_its_name() -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret, lab:other"))

    assert authenticator.authenticate("Bearer s3cret") == "shop"
    assert authenticator.authenticate("bearer other") == "lab"


def test_a_token_without_a_name_stands_for_its_own_sum() -> None:
    authenticator = build_authenticator(settings(tokens="s3cret"))

    assert authenticator.authenticate("Bearer s3cret") == sha256("s3cret")[:16]


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Bearer wrong", "Basic s3cret", "s3cret"])
def test_whoever_has_no_known_token_stays_outside(header: str | None) -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret"))

    with pytest.raises(Unauthorized):
        authenticator.authenticate(header)


@given(st.text(max_size=40))
def test_no_header_whatever_breaks_the_gate(header: str) -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret"))

    if header.lower().split() != ["bearer", "s3cret"]:
        with pytest.raises(Unauthorized):
            authenticator.authenticate(header)


def test_tokens_in_a_file_are_known_by_their_sums(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# who may come in\n\nshop:{sha256('old')}  # until May\nshop:{sha256('new').upper()}\n")

    authenticator = build_authenticator(settings(tokens_file=str(file)))

    assert authenticator.authenticate("Bearer old") == authenticator.authenticate("Bearer new") == "shop"


def test_a_token_in_plain_text_is_no_line_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("shop:s3cret\n")

    with pytest.raises(ValueError, match="line 1") as refusal:
        build_authenticator(settings(tokens_file=str(file)))
    assert "s3cret" not in str(refusal.value)


def test_a_file_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS_FILE"):
        build_authenticator(settings(tokens_file=str(tmp_path / "none")))


@pytest.mark.parametrize("word", ["shop:", ":s3cret", "sh/op:s3cret"])
def test_a_malformed_token_stops_the_start_and_is_not_repeated(word: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS") as refusal:
        build_authenticator(settings(tokens=word))
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("bind", ["127.0.0.1:8000", "localhost:80", "[::1]:8000", "127.3.2.1:1", "unix:/run/gateway"])
def test_on_loopback_nobody_needs_a_token(bind: str) -> None:
    assert build_authenticator(settings(bind=bind)).authenticate("Bearer whatever") == PUBLIC


@pytest.mark.parametrize("bind", [REACHABLE, "[::]:8000", "10.0.0.7:8000", "gateway.example:80"])
def test_without_tokens_strangers_are_not_served_by_oversight(bind: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_AUTH=off"):
        build_authenticator(settings(bind=bind))


def test_off_contradicts_tokens_that_are_configured() -> None:
    with pytest.raises(ValueError, match="drop one of the two"):
        build_authenticator(settings(auth="off", tokens="shop:s3cret"))


def test_on_insists_on_tokens_even_on_loopback() -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS"):
        build_authenticator(settings(auth="on"))


def test_the_settings_do_not_print_the_tokens() -> None:
    assert "s3cret" not in repr(settings(tokens="shop:s3cret"))
