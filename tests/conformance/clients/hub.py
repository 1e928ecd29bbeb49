"""Makes a list of calls with one version of huggingface_hub; runs in that version's own environment.

Reads the calls of each flavour (sync, async) as JSON from stdin and writes the outcome of each to stdout, by name.
"""

import asyncio
import dataclasses
import hashlib
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient

CONCURRENCY = 4


def main() -> None:
    calls = json.load(sys.stdin)
    with ThreadPoolExecutor(CONCURRENCY) as pool:
        sync = dict(pool.map(make_call, calls["sync"]))
    json.dump({"sync": sync, "async": asyncio.run(make_calls(calls["async"]))}, sys.stdout)


def make_call(call: dict[str, Any]) -> tuple[str, Any]:
    try:
        client = InferenceClient(**call["client"])
        return call["name"], describe_result(
            getattr(client, call["method"])(*image_arguments(call), **call["arguments"])
        )
    except Exception as error:
        return call["name"], describe_error(error)


async def make_calls(calls: list[dict[str, Any]]) -> dict[str, Any]:
    limit = asyncio.Semaphore(CONCURRENCY)

    async def make_async_call(call: dict[str, Any]) -> tuple[str, Any]:
        async with limit:
            try:
                client = AsyncInferenceClient(**call["client"])
                return call["name"], describe_result(
                    await getattr(client, call["method"])(*image_arguments(call), **call["arguments"])
                )
            except Exception as error:
                return call["name"], describe_error(error)

    return dict(await asyncio.gather(*map(make_async_call, calls)))


def image_arguments(call: dict[str, Any]) -> list[Any]:
    match call["image"]:
        case ["bytes", path]:
            return [Path(path).read_bytes()]
        case ["path", path]:
            return [Path(path)]
        case ["text", text]:
            return [text]
    return []


def describe_result(result: Any) -> dict[str, Any]:
    if isinstance(result, list):
        return {"segments": [describe_segment(element) for element in result]}
    return {"value": dataclasses.asdict(result) if dataclasses.is_dataclass(result) else result}


def describe_segment(element: Any) -> dict[str, Any]:
    mask = element.mask
    return {
        "label": element.label,
        "score": element.score,
        "mode": mask.mode,
        "size": mask.size,
        "values": sorted({value for _, value in mask.getcolors()}),
        "sha256": hashlib.sha256(mask.tobytes()).hexdigest(),
    }


def describe_error(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    # Older asynchronous clients attach the body to the exception.
    messages = [str(error), getattr(error, "server_message", None), getattr(error, "response_error_payload", None)]
    return {
        "error": type(error).__name__,
        "status": getattr(response, "status_code", None) or getattr(error, "status", None),
        "message": " | ".join(str(text) for text in messages if text),
        "request_id": getattr(error, "request_id", None),
    }


if __name__ == "__main__":
    main()
