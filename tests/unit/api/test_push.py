"""The stream of a response that the app pushes, and its form on the wire."""

from api.server.push import PushedBody, PushStream


def open_stream() -> tuple[PushStream, list[str]]:
    calls: list[str] = []
    return PushStream(lambda: calls.append("closed")), calls


def test_what_is_pushed_is_taken_once_in_order() -> None:
    stream, _ = open_stream()
    stream.push(b"a")
    stream.push(b"b")

    assert stream.take() == (b"ab", False)
    stream.push(b"c")
    stream.end()
    stream.push(b"after the end")
    assert stream.take() == (b"c", True)


def test_the_loop_is_woken_once_for_all_that_it_has_not_taken() -> None:
    stream, calls = open_stream()
    stream.push(b"before")
    stream.attach(lambda: calls.append("woken"))
    stream.push(b"a")
    stream.push(b"b")
    stream.take()
    stream.push(b"c")

    assert calls == ["woken", "woken"]


def test_nothing_wakes_the_loop_while_there_is_nothing() -> None:
    stream, calls = open_stream()

    stream.attach(lambda: calls.append("woken"))

    assert calls == []


def test_a_closed_stream_tells_it_once_and_takes_nothing_more() -> None:
    stream, calls = open_stream()
    stream.attach(lambda: calls.append("woken"))

    stream.close()
    stream.close()
    stream.push(b"a")
    stream.end()

    assert calls == ["closed"]
    assert stream.take()[0] == b""


def test_pieces_are_chunks_up_to_the_last_one() -> None:
    stream, _ = open_stream()
    body = PushedBody(stream, is_chunked=True)
    stream.push(b"twenty-six bytes of a piece"[:26])

    assert body.take() == (b"1a\r\ntwenty-six bytes of a piec\r\n", False)
    assert body.take() == (b"", False)
    stream.end()
    assert body.take() == (b"0\r\n\r\n", True)


def test_a_client_of_http_1_0_gets_the_bytes_alone() -> None:
    stream, _ = open_stream()
    body = PushedBody(stream, is_chunked=False)
    stream.push(b"piece")
    stream.end()

    assert body.take() == (b"piece", True)
