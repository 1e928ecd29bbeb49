"""The table of tests.evaluation.report: one column for each model and threshold."""

import math
from collections.abc import Mapping
from typing import Any, Final

GAP: Final = 2
Report = Mapping[str, Any]


def format_report(reports: Mapping[str, Report]) -> str:
    """Format the reports of several models, each at its default and at its best threshold."""
    columns = [
        (f"{model} {threshold}{' (best)' if threshold == report['best'] else ''}", list_figures(report, threshold))
        for model, report in reports.items()
        for threshold in dict.fromkeys((report["default"], report["best"]))
    ]
    names = list(dict.fromkeys(name for _, figures in columns for name in figures))
    rows = [["", *(title for title, _ in columns)]]
    rows += [[name, *(figures.get(name, "-") for _, figures in columns)] for name in names]
    widths = [max(map(len, column)) + GAP for column in zip(*rows, strict=True)]
    return "\n".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def list_figures(report: Report, threshold: str) -> dict[str, str]:
    """Return the figures at one threshold as text, by name."""
    things = report["things"][threshold]
    listed = {}
    for group in ("people", "cars", "animals"):
        one = things[group]
        low, high = one["share_95"]
        listed[f"{group} over 2 % matched"] = (
            f"{one['matched']} of {one['things']}, {format_percent(one['share'])}"
            f" ({format_percent(low)} to {format_percent(high)})"
        )
        listed[f"{group}, wrong for each match"] = f"{one['wrong']}, {format_number(one['wrong_per_match'])}"
    pieces = things["pieces"]
    listed["people over 5 % in one segment"] = (
        f"{pieces['whole']} of {pieces['found']} found of {pieces['things']}, {format_percent(pieces['share'])}"
    )
    listed["PQ of things"] = format_percent(things["pq"])
    if "panoptic" in report:
        quality = report["panoptic"][threshold]
        listed["panoptic PQ, things, stuff"] = ", ".join(
            format_percent(quality[part]["pq"]) for part in ("all", "things", "stuff")
        )
    if "stability" in report:
        listed |= list_stability(report["stability"][threshold])
    return listed


def list_stability(stability: Mapping[str, Any]) -> dict[str, str]:
    return {
        "equal pixels, mean": format_percent(stability["agreement"]),
        "equal pixels, 5th percentile": format_percent(stability["worst_5_percent"]),
        **{f"equal pixels, {name}": format_percent(value) for name, value in stability["by_variant"].items()},
        "same number of people": f"{format_percent(stability['same_people'])} of {stability['cases_with_people']}",
    }


def format_percent(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{100 * value:.1f}"


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
