"""The files of a result: those that its worker stored, and those that the renderer makes when they are asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from api.jobs.rendering import RenderCalls
from shared.errors import Gone, UnknownJob, build_error
from shared.formats.derived import DerivedFile, read_derived, select_options
from shared.formats.registry import Format
from shared.jobs.format_options import FORMAT_OPTIONS, FormatOptions
from shared.jobs.render_calls import RenderCall, RenderKind
from shared.jobs.result import ByteRange, JobResult, StoredFile
from shared.jobs.stored_files import read_stored
from shared.storage.bucket import Bucket, NoSuchObject
from shared.storage.keys import derived_key, object_key


@dataclass(frozen=True, slots=True)
class ResultFile:
    """A file of a result that is stored, or a part of one.

    stored: None if its facts were not recorded.
    ranges: by segment id, the bytes that are that segment's own file.
    find_end: returns until when it was kept, RFC 3339, if it is not stored any more; None if that is not known.
    """

    key: str
    media_type: str
    stored: StoredFile | None
    ranges: Mapping[int, ByteRange]
    bucket: Bucket
    find_end: Callable[[], str | None] = lambda: None

    def read(self, part: ByteRange | None = None) -> bytes:
        """Return the content, or a part of it.

        Raises:
            Gone: it is not stored any more.
            ResultOverwritten: another file is stored in its place.
            StorageUnavailable: the bucket does not answer.
        """
        try:
            return read_stored(self.key, self.stored, bucket=self.bucket, part=part)
        except NoSuchObject as error:
            name = self.key.rpartition("/")[2]
            raise Gone(f"{name} of this job is not stored any more.", kept_until=self.find_end()) from error

    def is_unchanged(self) -> bool:
        """Return whether the object is known to be the one that was recorded, so that clients may fetch it themselves.

        Raises:
            StorageUnavailable: the bucket does not answer.
        """
        return self.stored is not None and self.bucket.has(self.key, self.stored.etag)


def find_file(
    result: JobResult,
    wanted: Format,
    *,
    bucket: Bucket,
    renders: RenderCalls,
    options: FormatOptions | None = None,
) -> ResultFile:
    """Return the file of a format; it is rendered now if it is neither stored nor was rendered before.

    Args:
        options: how it is rendered; None: as the job says.

    Raises:
        RendererUnavailable, TooManyWaiting, GatewayStopping: it cannot be rendered now.
        ImageGone: it is rendered from the image, which is not kept any more.
        StorageUnavailable: the bucket does not answer.
        Unrepresentable: the format cannot hold the result.
        MaskmillError: why it cannot be rendered at all.
    """
    chosen = result.request.format_options if options is None else options
    if is_own(result, wanted, chosen):
        omitted = result.omitted.get(wanted.name)
        if omitted is not None:
            raise build_error(omitted.code, omitted.message)
        return find_stored_file(result, wanted, bucket=bucket)
    derived = read_derived(result, wanted, chosen, bucket=bucket) or _render(result, wanted, chosen, renders)
    key = derived_key(result.request.id, result.attempt_name, derived.name)
    return ResultFile(key, choose_media_type(derived.stored, wanted), derived.stored, derived.ranges, bucket)


def is_own(result: JobResult, wanted: Format, options: FormatOptions) -> bool:
    """Tell whether the worker was to store the file of a format with these options."""
    own = select_options(result.request.format_options, wanted)
    return wanted.name in result.request.formats and select_options(options, wanted) == own


def find_stored_file(result: JobResult, wanted: Format, *, bucket: Bucket) -> ResultFile:
    """Return the file of a format that the worker has stored."""
    key = object_key(result.request.id, result.attempt_name, wanted.file)
    ranges = result.masks if wanted.name == "masks" else {}
    stored = result.objects.get(wanted.name)
    return ResultFile(key, choose_media_type(stored, wanted), stored, ranges, bucket)


def choose_media_type(stored: StoredFile | None, wanted: Format) -> str:
    """Return the media type of a file, which is that of its format unless the file says so."""
    return (stored and stored.media_type) or wanted.media_type


def _render(result: JobResult, wanted: Format, options: FormatOptions, renders: RenderCalls) -> DerivedFile:
    """Let the renderer make and store a file."""
    arguments = {"format": wanted.name, "options": FORMAT_OPTIONS.dump_python(options, mode="json")}
    call = RenderCall(RenderKind.FORMAT, result.request.tenant, result.request.id, arguments)
    return DerivedFile.from_json(renders.call(call))


def check_requested(result: JobResult, wanted: Format) -> None:
    """Raise UnknownJob if the job was submitted without a format."""
    if wanted.name not in result.request.formats:
        raise UnknownJob(
            f"The job has no {wanted.file}: it was submitted with formats={','.join(result.request.formats)}. "
            f"Submit the image again with formats={wanted.name}."
        )
