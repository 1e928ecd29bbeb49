"""The wire form of a recut."""

from dataclasses import asdict
from typing import Self

from flask import url_for
from pydantic import BaseModel, Field

from api.schemas.jobs import ParametersView
from api.schemas.omitted import OMITTED_TEXT, OmittedView, show_omitted
from shared.jobs.parameters import SegmentParameters
from shared.jobs.recut_call import InlineFile, RecutDocument
from shared.jobs.result import Segment


class RecutSegmentView(BaseModel):
    id: int = Field(description="Its value in the label map, from 1.")
    label: str
    label_id: int
    score: float | None = Field(description="From 0 to 1; null where the subtask has none (semantic).")
    area: int = Field(description="Pixels of the label map.")
    bbox: tuple[int, int, int, int] = Field(description="[x, y, width, height] in pixels of the label map.")

    @classmethod
    def of(cls, segment: Segment) -> Self:
        return cls(**asdict(segment))


class InlineFileView(BaseModel):
    """A file: `text` if it is one, `base64` otherwise."""

    media_type: str
    text: str | None = None
    base64: str | None = None

    @classmethod
    def of(cls, file: InlineFile) -> Self:
        return cls(**asdict(file))


class RecutView(BaseModel):
    """The result of a recut."""

    recut_of: str = Field(description="Id of the job whose logits were used.")
    id: str | None = Field(description="Id of the job as which it is stored, with `store`; null otherwise.")
    job_url: str | None = Field(description="Address of that job.")
    model: str
    model_revision: str
    parameters: ParametersView
    width: int = Field(description="Of the label map, in pixels; less than those of the image in a preview.")
    height: int
    segments: list[RecutSegmentView]
    labels: str = Field(
        description="PNG of the label map, in base64: 0 is nothing, n is the segment of id n.",
        json_schema_extra={"contentEncoding": "base64", "contentMediaType": "image/png"},
    )
    files: dict[str, InlineFileView] = Field(description="The other `formats`, by their names.")
    omitted: dict[str, OmittedView] = Field(description=OMITTED_TEXT)
    timings_ms: dict[str, float]

    @classmethod
    def of(
        cls, document: RecutDocument, parameters: SegmentParameters, *, recut_of: str, stored_as: str | None
    ) -> Self:
        files = {name: InlineFileView.of(file) for name, file in document.files.items() if name != "labels"}
        return cls(
            recut_of=recut_of,
            id=stored_as,
            job_url=url_for("jobs.show_job", job_id=stored_as) if stored_as else None,
            model=document.model,
            model_revision=document.model_revision,
            parameters=ParametersView(**asdict(parameters)),
            width=document.width,
            height=document.height,
            segments=[RecutSegmentView.of(segment) for segment in document.segments],
            labels=document.files["labels"].base64 or "",
            files=files,
            omitted=show_omitted(document.omitted),
            timings_ms=document.timings_ms,
        )
