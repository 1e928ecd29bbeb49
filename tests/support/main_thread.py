"""What a page's main thread does, from a trace of the browser: its tasks, and what long ones consist of."""

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from playwright.sync_api import Browser, Page

LONG_MS: Final = 50.0
_CATEGORIES: Final = ["devtools.timeline", "disabled-by-default-devtools.timeline", "toplevel", "v8"]
_TASK: Final = "RunTask"
# One of these begins what is drawn in a frame.
_FRAME: Final = "FireAnimationFrame"

Event = Mapping[str, Any]


@dataclass(frozen=True)
class LongTask:
    """parts: milliseconds by what was done, without what was done within it, the longest first."""

    milliseconds: float
    parts: Mapping[str, float]

    def describe(self) -> str:
        return ", ".join(f"{name} {ms:.0f}" for name, ms in list(self.parts.items())[:6])


@dataclass
class MainThread:
    """tasks: milliseconds of each task of the main thread.  frames: of the tasks that drew one."""

    tasks: list[float] = field(default_factory=list)
    frames: list[float] = field(default_factory=list)
    long_tasks: list[LongTask] = field(default_factory=list)

    def describe_frames(self) -> dict[str, float]:
        """Return how long the main thread works for a frame, with all that happens between two of them."""
        if not self.frames:
            return {}
        return {
            "count": len(self.frames),
            "median_ms": round(statistics.median(self.frames), 1),
            "max_ms": round(max(self.frames), 1),
            "all_tasks_per_frame_ms": round(sum(self.tasks) / len(self.frames), 1),
        }


@contextmanager
def trace_tasks(browser: Browser, page: Page) -> Iterator[MainThread]:
    """Trace the block; the object has its figures when the block has ended."""
    measured = MainThread()
    browser.start_tracing(page=page, categories=_CATEGORIES)
    try:
        yield measured
    finally:
        events = json.loads(browser.stop_tracing())["traceEvents"]
    thread = find_main_thread(events)
    own = [one for one in events if one.get("ph") == "X" and get_thread(one) == thread]
    for task in split_tasks(sorted(own, key=lambda one: (one["ts"], -one["dur"]))):
        note_task(measured, *task)


def find_main_thread(events: Sequence[Event]) -> tuple[int, int]:
    """Return (process, thread) of the page: the renderer's main thread that drew most frames."""
    drawn = Counter(get_thread(one) for one in events if one["name"] == _FRAME)
    if drawn:
        return drawn.most_common(1)[0][0]
    names = [one for one in events if one["name"] == "thread_name" and one["args"].get("name") == "CrRendererMain"]
    return get_thread(names[-1])


def get_thread(event: Event) -> tuple[int, int]:
    return event["pid"], event["tid"]


def split_tasks(events: Sequence[Event]) -> list[tuple[Event, list[Event]]]:
    """Return each task with what was done within it; the events are in the order of time."""
    tasks: list[tuple[Event, list[Event]]] = []
    for event in events:
        if tasks and event["ts"] < tasks[-1][0]["ts"] + tasks[-1][0]["dur"]:
            tasks[-1][1].append(event)
        elif event["name"].endswith(_TASK):
            tasks.append((event, []))
    return tasks


def note_task(measured: MainThread, task: Event, inside: Sequence[Event]) -> None:
    milliseconds = task["dur"] / 1000
    measured.tasks.append(milliseconds)
    if any(one["name"] == _FRAME for one in inside):
        measured.frames.append(milliseconds)
    if milliseconds > LONG_MS:
        measured.long_tasks.append(LongTask(milliseconds, sum_parts(inside)))


def sum_parts(events: Sequence[Event]) -> Mapping[str, float]:
    """Return the milliseconds of each kind of event, without those within it; functions by their names."""
    parts: Counter[str] = Counter()
    open_events: list[Event] = []
    for event in events:
        while open_events and open_events[-1]["ts"] + open_events[-1].get("dur", 0) <= event["ts"]:
            open_events.pop()
        parts[name_event(event)] += event.get("dur", 0)
        if open_events:
            parts[name_event(open_events[-1])] -= event.get("dur", 0)
        open_events.append(event)
    return {name: micro / 1000 for name, micro in parts.most_common() if micro > 500}


def name_event(event: Event) -> str:
    data = event.get("args", {}).get("data", {})
    if event["name"] != "FunctionCall" or not isinstance(data, Mapping):
        return str(event["name"])
    return f"{data.get('functionName') or 'function'} ({str(data.get('url', '')).rpartition('/')[2]})"
