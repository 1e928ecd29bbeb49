"""The client of the Hugging Face Inference API, unchanged, against the whole service."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient, close_session
from huggingface_hub.errors import BadRequestError, HfHubHTTPError

from deploy.local.stack import Stack
from tests.support.images import astronaut, cat, jpeg, sideways_cat

# Whatever is left out here, the client fills in with the token of the machine it runs on.
NO_TOKEN = "none"


@pytest.fixture(scope="module", autouse=True)
def connections() -> Iterator[None]:
    """The client keeps its connections for the next call; after the last one they are to be closed."""
    yield
    close_session()


@pytest.fixture
def client(stack: Stack) -> InferenceClient:
    return InferenceClient(stack.url, token=NO_TOKEN, timeout=60)


def test_bytes_go_in_and_masks_come_out(client: InferenceClient) -> None:
    segments = client.image_segmentation(jpeg(astronaut()))

    assert segments
    assert all(0 <= segment.score <= 1 for segment in segments)
    assert {segment.mask.size for segment in segments} == {astronaut().size}
    assert {segment.mask.mode for segment in segments} == {"L"}


def test_a_file_goes_in_by_its_path(client: InferenceClient, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(astronaut()))

    assert len(client.image_segmentation(path)) == len(client.image_segmentation(jpeg(astronaut()))) > 0


def test_parameters_are_heeded(client: InferenceClient) -> None:
    semantic = client.image_segmentation(jpeg(cat()), subtask="semantic")
    strict = client.image_segmentation(jpeg(cat()), threshold=1.0)

    assert {segment.score for segment in semantic} == {1.0}
    assert strict == []


def test_masks_lie_as_the_photo_is_seen(client: InferenceClient) -> None:
    segments = client.image_segmentation(sideways_cat(), subtask="semantic")

    assert {segment.mask.size for segment in segments} == {cat().size}


def test_a_model_is_named_in_the_address(stack: Stack) -> None:
    client = InferenceClient(base_url=f"{stack.url}/models/maskmill/embedded/", token=NO_TOKEN)

    assert client.image_segmentation(jpeg(astronaut()))


# The client's own way of sending bytes is what it is warned of.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_asynchronous_client_is_served_as_well(stack: Stack) -> None:
    async def ask_twice() -> list[int]:
        async with AsyncInferenceClient(stack.url, token=NO_TOKEN) as client:
            answers = await asyncio.gather(*(client.image_segmentation(jpeg(astronaut())) for _ in range(2)))
        return [len(answer) for answer in answers]

    first, second = asyncio.run(ask_twice())

    assert first == second > 0


def test_the_client_shows_why_a_request_was_refused(client: InferenceClient) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.image_segmentation(jpeg(cat())[:3000])

    assert "stops before its end" in (refusal.value.server_message or "")
    assert refusal.value.request_id


def test_an_unknown_model_is_told(stack: Stack) -> None:
    client = InferenceClient(f"{stack.url}/models/no/such", token=NO_TOKEN)

    with pytest.raises(HfHubHTTPError, match="maskmill/embedded"):
        client.image_segmentation(jpeg(cat()))
