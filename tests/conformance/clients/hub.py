"""What one version of huggingface_hub makes of a list of calls; runs in that version's own environment.

Reads the calls of each flavour (sync, async) as JSON from stdin and writes what came of each to stdout, by name.
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

AT_ONCE = 4


def main() -> None:
    calls = json.load(sys.stdin)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        sync = dict(pool.map(make, calls["sync"]))
    json.dump({"sync": sync, "async": asyncio.run(make_all(calls["async"]))}, sys.stdout)


def make(call: dict[str, Any]) -> tuple[str, Any]:
    try:
        client = InferenceClient(**call["client"])
        return call["name"], shown(getattr(client, call["method"])(*image_of(call), **call["arguments"]))
    except Exception as error:
        return call["name"], refused(error)


async def make_all(calls: list[dict[str, Any]]) -> dict[str, Any]:
    turn = asyncio.Semaphore(AT_ONCE)

    async def make_one(call: dict[str, Any]) -> tuple[str, Any]:
        async with turn:
            try:
                client = AsyncInferenceClient(**call["client"])
                return call["name"], shown(await getattr(client, call["method"])(*image_of(call), **call["arguments"]))
            except Exception as error:
                return call["name"], refused(error)

    return dict(await asyncio.gather(*map(make_one, calls)))


def image_of(call: dict[str, Any]) -> list[Any]:
    match call["image"]:
        case ["bytes", path]:
            return [Path(path).read_bytes()]
        case ["path", path]:
            return [Path(path)]
        case ["text", text]:
            return [text]
    return []


def shown(answer: Any) -> dict[str, Any]:
    if isinstance(answer, list):
        return {"segments": [segment(element) for element in answer]}
    return {"value": dataclasses.asdict(answer) if dataclasses.is_dataclass(answer) else answer}


def segment(element: Any) -> dict[str, Any]:
    mask = element.mask
    return {
        "label": element.label,
        "score": element.score,
        "mode": mask.mode,
        "size": mask.size,
        "values": sorted({value for _, value in mask.getcolors()}),
        "sha256": hashlib.sha256(mask.tobytes()).hexdigest(),
    }


def refused(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    # The asynchronous clients of old hand the body over beside the exception.
    told = [str(error), getattr(error, "server_message", None), getattr(error, "response_error_payload", None)]
    return {
        "error": type(error).__name__,
        "status": getattr(response, "status_code", None) or getattr(error, "status", None),
        "told": " | ".join(str(text) for text in told if text),
        "request_id": getattr(error, "request_id", None),
    }


if __name__ == "__main__":
    main()
