"""The client of the Hugging Face Inference API, unchanged, against the whole service."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from huggingface_hub import AsyncInferenceClient, ImageSegmentationOutputElement, InferenceClient, close_session
from huggingface_hub.errors import BadRequestError, HfHubHTTPError
from PIL import Image

from deploy.local.stack import Stack
from tests.support.images import astronaut, cat, jpeg, sideways_cat

# Without a token here, the client would send the one configured on this machine.
NO_TOKEN = "none"


@pytest.fixture(scope="module", autouse=True)
def close_connections() -> Iterator[None]:
    """Close the connections that the client keeps open between calls."""
    yield
    close_session()


@pytest.fixture
def client(stack: Stack) -> InferenceClient:
    return InferenceClient(stack.url, token=NO_TOKEN, timeout=60)


def get_masks(segments: list[ImageSegmentationOutputElement]) -> list[Image.Image]:
    """Return the masks: the client declares them as base64 and decodes them."""
    return [cast(Image.Image, segment.mask) for segment in segments]


def test_bytes_are_segmented(client: InferenceClient) -> None:
    segments = client.image_segmentation(jpeg(astronaut()))

    assert segments
    assert all(0 <= segment.score <= 1 for segment in segments)
    assert {mask.size for mask in get_masks(segments)} == {astronaut().size}
    assert {mask.mode for mask in get_masks(segments)} == {"L"}


def test_a_file_is_segmented_by_its_path(client: InferenceClient, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(astronaut()))

    assert len(client.image_segmentation(path)) == len(client.image_segmentation(jpeg(astronaut()))) > 0


def test_parameters_are_applied(client: InferenceClient) -> None:
    semantic = client.image_segmentation(jpeg(cat()), subtask="semantic")
    strict = client.image_segmentation(jpeg(cat()), threshold=1.0)

    assert {segment.score for segment in semantic} == {1.0}
    assert strict == []


def test_masks_have_the_upright_orientation(client: InferenceClient) -> None:
    segments = client.image_segmentation(sideways_cat(), subtask="semantic")

    assert {mask.size for mask in get_masks(segments)} == {cat().size}


def test_a_model_can_be_named_in_the_url(stack: Stack) -> None:
    client = InferenceClient(base_url=f"{stack.url}/models/maskmill/embedded/", token=NO_TOKEN)

    assert client.image_segmentation(jpeg(astronaut()))


# The client itself sends bytes in the way that its HTTP library deprecates.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_the_asynchronous_client_works(stack: Stack) -> None:
    async def call_twice() -> list[int]:
        async with AsyncInferenceClient(stack.url, token=NO_TOKEN) as client:
            replies = await asyncio.gather(*(client.image_segmentation(jpeg(astronaut())) for _ in range(2)))
        return [len(reply) for reply in replies]

    first, second = asyncio.run(call_twice())

    assert first == second > 0


def test_the_client_shows_the_reason_of_a_refusal(client: InferenceClient) -> None:
    with pytest.raises(BadRequestError) as refusal:
        client.image_segmentation(jpeg(cat())[:3000])

    assert "stops before its end" in (refusal.value.server_message or "")
    assert refusal.value.request_id


def test_the_error_for_an_unknown_model_names_the_default_one(stack: Stack) -> None:
    client = InferenceClient(f"{stack.url}/models/no/such", token=NO_TOKEN)

    with pytest.raises(HfHubHTTPError, match="maskmill/embedded"):
        client.image_segmentation(jpeg(cat()))
