"""The tenant of a token, and the settings with which the gateway does not start."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from api.http.authentication import PUBLIC, Access, Authenticator, build_authenticator
from api.http.tokens import Scope, Token, format_line, parse_file, parse_time, parse_words
from api.http.tokens_file import TokenTable
from api.settings import ApiSettings
from api.tokens import main as make_token
from shared.errors import MissingScope, Unauthorized

REACHABLE = "0.0.0.0:8000"


def settings(**changes: Any) -> ApiSettings:
    return ApiSettings(**changes)


def sha256(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def test_a_named_token_gives_its_tenant() -> None:
    authenticator = build_authenticator(settings(tokens="shop:s3cret, lab:other"))

    assert authenticator.authenticate("Bearer s3cret").tenant == "shop"
    assert authenticator.authenticate("bearer other").tenant == "lab"


def test_the_tenant_of_a_bare_token_is_its_digest() -> None:
    authenticator = build_authenticator(settings(tokens="s3cret"))

    assert authenticator.authenticate("Bearer s3cret").tenant == sha256("s3cret")[:16]


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

    assert {authenticator.authenticate(f"Bearer {token}").tenant for token in ("old", "new")} == {"shop"}


def test_a_plain_token_in_the_file_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("shop:s3cret\n")

    with pytest.raises(ValueError, match="line 1") as caught:
        build_authenticator(settings(tokens_file=str(file)))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("word", ["shop:s3cret-\u00fc", "s3cret-\u00fc", "shop:s3cret-\U0001f511", "s3cret\x7f"])
def test_a_token_that_no_header_can_hold_stops_the_start_and_is_not_repeated(word: str) -> None:
    with pytest.raises(ValueError, match=r"MASKMILL_TOKENS: a token has .* ASCII alone|control character") as caught:
        build_authenticator(settings(tokens=word))
    assert "s3cret" not in str(caught.value)


def test_a_missing_tokens_file_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS_FILE"):
        build_authenticator(settings(tokens_file=str(tmp_path / "none")))


@pytest.mark.parametrize("word", ["shop:", ":s3cret", "sh/op:s3cret"])
def test_a_malformed_token_stops_the_start_and_is_not_repeated(word: str) -> None:
    with pytest.raises(ValueError, match="MASKMILL_TOKENS") as caught:
        build_authenticator(settings(tokens=word))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "bind",
    ["127.0.0.1:8000", "localhost:80", "[::1]:8000", "127.3.2.1:1", "::1:80", "localhost.:1", "unix:/run/gateway"],
)
def test_loopback_requires_no_token(bind: str) -> None:
    assert build_authenticator(settings(bind=bind)).authenticate("Bearer unknown").tenant == PUBLIC


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


@pytest.mark.parametrize(("published", "is_guarded"), [("127.0.0.1", False), ("::1", False), ("0.0.0.0", True)])
def test_the_published_address_of_a_container_decides_in_place_of_its_own(published: str, is_guarded: bool) -> None:
    in_container = settings(bind=REACHABLE, published=published)

    if is_guarded:
        with pytest.raises(ValueError, match=r"no tokens are configured for 0\.0\.0\.0:8000"):
            build_authenticator(in_container)
    else:
        assert not build_authenticator(in_container).requires_token


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class TokensFile:
    """A tokens file, and a table that reads it by a clock that the test sets."""

    def __init__(self, path: Path, text: str, fixed: str = "") -> None:
        self.path = path
        self.path.write_text(text)
        self._clock = Clock()
        self.table = TokenTable(parse_words(fixed), str(path), monotonic=self._clock)
        self.authenticator = Authenticator(self.table)

    def replace(self, text: str) -> None:
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def pass_seconds(self, seconds: float) -> None:
        self._clock.seconds += seconds

    def tenant(self, token: str) -> str | None:
        try:
            return self.authenticator.authenticate(f"Bearer {token}").tenant
        except Unauthorized:
            return None


@pytest.fixture
def tokens_file(tmp_path: Path) -> TokensFile:
    return TokensFile(tmp_path / "tokens", f"shop:{sha256('old')}\n", fixed="lab:fixed")


def test_a_changed_file_is_read_within_a_second(tokens_file: TokensFile) -> None:
    tokens_file.replace(f"shop:{sha256('new')}\n")
    before = tokens_file.tenant("old"), tokens_file.tenant("new")
    tokens_file.pass_seconds(1)
    after = tokens_file.tenant("old"), tokens_file.tenant("new")

    assert (before, after) == (("shop", None), (None, "shop"))
    assert tokens_file.tenant("fixed") == "lab"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "shop:s3cret\n",
        f"shop:{'0' * 64}\nshop:{'1' * 30}",  # not written to its end yet
        f"shop:{'0' * 64} scopes=\n",
        f"shop:{'0' * 64} scopes=write\n",
        f"shop:{'0' * 64} expires=soon\n",
        f"shop:{'0' * 64} expires=2027-01-31T00:00:00\n",
        f"shop:{'0' * 64} scopes=read scopes=submit\n",
        f"shop:{'0' * 64} scope=read\n",
        f"shop:{'0' * 64} s3cret\n",
        f"shop:{'0' * 64}\nlab:{'0' * 64}\n",
        f"shop:{'0' * 64}\nshop:{'0' * 64} scopes=admin\n",
        f"shop:{hashlib.sha256(b'fixed').hexdigest()}\n",
    ],
)
def test_a_wrong_file_stops_the_start_and_a_running_gateway_keeps_its_tokens(
    tokens_file: TokensFile, text: str
) -> None:
    tokens_file.replace(text)
    tokens_file.pass_seconds(1)
    with capture_logs() as lines:
        tenants = [tokens_file.tenant(token) for token in ("old", "fixed")]

    assert tenants == ["shop", "lab"]
    assert [(line["event"], line["log_level"]) for line in lines] == [("tokens_not_reloaded", "error")]
    assert "s3cret" not in str(lines)
    with pytest.raises(ValueError, match=r"MASKMILL_TOKENS_FILE|token"):
        build_authenticator(settings(tokens_file=str(tokens_file.path), tokens="lab:fixed"))


def test_a_wrong_file_is_logged_once_and_a_corrected_one_is_read(tokens_file: TokensFile) -> None:
    tokens_file.replace("shop:\n")
    with capture_logs() as lines:
        for _ in range(3):
            tokens_file.pass_seconds(1)
            tokens_file.tenant("old")
    tokens_file.replace(f"shop:{sha256('new')}\n")
    tokens_file.pass_seconds(1)

    assert len(lines) == 1
    assert tokens_file.tenant("new") == "shop"


def test_tokens_remain_when_the_file_is_deleted_and_change_when_it_returns(tokens_file: TokensFile) -> None:
    tokens_file.path.unlink()
    tokens_file.pass_seconds(1)
    with capture_logs() as lines:
        assert tokens_file.tenant("old") == "shop"
    tokens_file.path.write_text(f"shop:{sha256('new')}\n")
    tokens_file.pass_seconds(1)

    assert [line["log_level"] for line in lines] == ["error"]
    assert (tokens_file.tenant("old"), tokens_file.tenant("new")) == (None, "shop")


def test_a_token_expires(tmp_path: Path) -> None:
    path, now = tmp_path / "tokens", Clock()
    path.write_text(f"shop:{sha256('short')} expires=1970-01-01T00:20:00Z\nshop:{sha256('long')}\n")
    authenticator = Authenticator(TokenTable([], str(path)), now=now)

    assert authenticator.authenticate("Bearer short").tenant == "shop"
    now.seconds = 1200
    with pytest.raises(Unauthorized, match="expired at 1970-01-01T00:20:00Z"):
        authenticator.authenticate("Bearer short")
    assert authenticator.authenticate("Bearer long").tenant == "shop"


@pytest.mark.parametrize(
    ("attributes", "scopes"),
    [
        ("", {Scope.READ, Scope.SUBMIT}),
        ("scopes=read", {Scope.READ}),
        ("scopes=submit", {Scope.READ, Scope.SUBMIT}),
        ("scopes=admin", {Scope.READ, Scope.ADMIN}),
        ("expires=2999-01-01 scopes=submit,admin", {Scope.READ, Scope.SUBMIT, Scope.ADMIN}),
    ],
)
def test_a_line_gives_scopes(tmp_path: Path, attributes: str, scopes: set[Scope]) -> None:
    file = TokensFile(tmp_path / "tokens", f"shop:{sha256('s3cret')} {attributes}\n")

    assert file.authenticator.authenticate("Bearer s3cret").scopes == scopes


def test_a_missing_scope_is_named() -> None:
    with pytest.raises(MissingScope, match="scope submit") as caught:
        Access("shop", frozenset({Scope.READ})).require(Scope.SUBMIT)
    assert caught.value.headers() == {"WWW-Authenticate": 'Bearer error="insufficient_scope", scope="submit"'}


@pytest.mark.parametrize("words", ["shop:s3cret,lab:s3cret", "s3cret,shop:s3cret"])
def test_the_same_token_for_two_names_stops_the_start(words: str) -> None:
    with pytest.raises(ValueError, match="have the same token") as caught:
        build_authenticator(settings(tokens=words))
    assert "s3cret" not in str(caught.value)


def test_a_repeated_token_of_one_name_is_accepted(tmp_path: Path) -> None:
    file = TokensFile(tmp_path / "tokens", f"shop:{sha256('s3cret')}\n" * 2, fixed="shop:s3cret")

    assert file.tenant("s3cret") == "shop"


def test_a_made_line_accepts_its_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_token(["shop", "--scopes", "submit", "--expires", "2999-01-31"])
    first, _, line = capsys.readouterr().out.splitlines()
    token = first.rpartition(" ")[2]
    access = TokensFile(tmp_path / "tokens", line).authenticator.authenticate(f"Bearer {token}")

    assert access == Access("shop", frozenset({Scope.READ, Scope.SUBMIT}))
    assert line.endswith(" scopes=read,submit expires=2999-01-31T00:00:00Z")
    assert token not in line


@pytest.mark.parametrize("arguments", [["sh/op"], ["shop", "--scopes", "all"], ["shop", "--expires", "soon"]])
def test_no_token_is_made_from_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_token(arguments)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("scopes", ["foo", "read,foo", "foo, read"])
def test_a_wrong_scope_is_answered_with_those_that_exist(scopes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_token(["shop", "--scopes", scopes])
    assert "there is no scope 'foo': the scopes are read, submit, admin" in capsys.readouterr().err


def test_scopes_may_be_separated_by_blanks_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    make_token(["shop", "--scopes", "read, admin"])

    assert capsys.readouterr().out.rstrip().endswith(" scopes=read,admin")


@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "0999-12-31T23:59:59-12:00"])
def test_a_made_line_with_any_year_can_be_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    make_token(["shop", "--expires", text])
    line = capsys.readouterr().out.splitlines()[-1]

    assert parse_file(line, "tokens")[0].expires_at == parse_time(text)


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"])
def test_a_time_that_is_no_year_of_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="years 1 to 9999"):
        parse_time(text)


NAMES = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@given(NAMES, st.sets(st.sampled_from(Scope), min_size=1), st.none() | st.integers(-(2**35), 2**37))
def test_a_line_is_read_as_it_was_written(name: str, scopes: set[Scope], expires_at: int | None) -> None:
    token = Token(name, sha256(name), frozenset({*scopes, Scope.READ}), expires_at)

    assert parse_file(format_line(token), "tokens") == [token]


@given(st.text())
def test_any_text_is_a_list_of_tokens_or_a_value_error(text: str) -> None:
    try:
        tokens = parse_file(text, "tokens")
    except ValueError:
        return
    assert tokens
