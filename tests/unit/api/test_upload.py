"""The bytes of a submission's image."""

import pytest

from api.jobs.upload import Upload


def test_an_upload_is_released_once() -> None:
    calls: list[str] = []
    upload = Upload(b"image", on_release=lambda: calls.append("released"))

    assert upload.content == b"image"
    upload.release()
    upload.release()

    assert calls == ["released"]
    with pytest.raises(RuntimeError, match="released"):
        _ = upload.content
