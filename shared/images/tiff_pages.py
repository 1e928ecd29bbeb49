"""Which image of a TIFF is the photo: the first one, or the larger one of which it is a preview.

Cameras and archives store a small image first, marked as a reduced-resolution version, and the full image in a
sub-directory (SubIFDs: TIFF Technical Note 1, DNG, NEF) or in a later directory of the chain.  Some programs do not
mark it; then it is known by its size, and only images of its proportions can be the full one.
"""

import struct
from collections.abc import Iterator

from PIL.ExifTags import Base as Tag

from shared.errors import ImageTooCostly, NotAnImage
from shared.images.directory import Directory, read_directory

# Directories that are read to find the full image; a file may have more, and DNG files have about five.
MAX_DIRECTORIES = 32
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
# Without a mark, an image no longer than this is a preview of one that is so many times as long and wide, to within its
# own rounding.  Pages of a document are longer, and so are photos that a program saves as a list, often of one format.
_MAX_PREVIEW_SIDE = 256
_MIN_REDUCTION = 2.0
_OLD_REDUCED = 2  # a value of SubfileType
_SENSOR_DATA = frozenset({32803, 34892})  # photometric interpretations: CFA, LinearRaw


def choose_directory(data: bytes) -> Directory:
    """Return the directory of the photo.

    It is the first one, unless

    * it is marked as a reduced version or as a mask: then the largest of all that are no masks;
    * it has no mark, but the size of a preview of the next one: then the largest of those of which it can be a preview;
    * it has a sub-directory that is larger and not marked as a reduced version or a mask: then the largest of these.

    Raises:
        struct.error: the file stops before the end of a directory.
        NotAnImage: the photo is sensor data of a camera.
        ImageTooCostly: a directory has too many entries.
    """
    first = read_directory(data)
    is_marked = _is_preview(first, data) or _is_mask(first, data)
    is_guessed = not is_marked and _is_reduced_next(first, data)
    directories = list(_iterate_directories(data, first, is_chain_read=is_marked or is_guessed, is_needed=is_marked))
    if any(_is_sensor_data(directory, data) for directory in directories):
        raise _describe_sensor_data(first)

    def is_candidate(directory: Directory) -> bool:
        if directory is first or is_marked:
            return True
        return _is_reduced(first, directory, data) if is_guessed else not _is_preview(directory, data)

    candidates = [one for one in directories if not _is_mask(one, data) and is_candidate(one)]
    # The first of several that are equal; a full image before a reduced one.
    return max(candidates, key=lambda one: (_count_pixels(one, data), not _is_preview(one, data)), default=first)


def _describe_sensor_data(first: Directory) -> NotAnImage:
    name = "DNG" if Tag.DNGVersion in first.entries else "such as NEF or ARW"
    return NotAnImage(
        f"The file is the RAW image of a camera ({name}), which cannot be decoded; export it as JPEG, PNG or TIFF"
    )


def _iterate_directories(data: bytes, first: Directory, *, is_chain_read: bool, is_needed: bool) -> Iterator[Directory]:
    """Yield the first directory and its sub-directories, and those of the chain if it is read.

    is_needed: the first is not the photo, so that the others must be readable.
    """
    yield first
    starts = [first.start]
    _add_starts(starts, first, data, is_chain_read=is_chain_read)
    position = 1
    while position < min(len(starts), MAX_DIRECTORIES):
        try:
            directory = read_directory(data, starts[position])
            _add_starts(starts, directory, data, is_chain_read=is_chain_read)
            yield directory
        except (struct.error, ImageTooCostly):
            if is_needed:
                raise
        position += 1


def _add_starts(starts: list[int], directory: Directory, data: bytes, *, is_chain_read: bool) -> None:
    """Add where the sub-directories of a directory are, and where the next one of the chain is, if not yet known."""
    children = directory.read_numbers(data, Tag.SubIFDs, MAX_DIRECTORIES)
    following = (directory.following,) if is_chain_read else ()
    starts += [start for start in dict.fromkeys((*children, *following)) if start and start not in starts]


def _is_preview(directory: Directory, data: bytes) -> bool:
    flags = directory.read_number(data, Tag.NewSubfileType)
    return bool(flags & _REDUCED) or directory.read_number(data, Tag.SubfileType) == _OLD_REDUCED


def _is_reduced_next(directory: Directory, data: bytes) -> bool:
    """Tell whether a directory without a mark looks like a preview of the next one of the chain."""
    try:
        following = read_directory(data, directory.following) if directory.following else None
    except (struct.error, ImageTooCostly):
        return False
    if following is None or directory.read_number(data, Tag.NewSubfileType) or _is_mask(following, data):
        return False
    return 0 < max(_read_size(directory, data)) <= _MAX_PREVIEW_SIDE and _is_reduced(directory, following, data)


def _is_reduced(directory: Directory, full: Directory, data: bytes) -> bool:
    """Tell whether an image has the proportions of another one that is much larger."""
    (width, height), (full_width, full_height) = _read_size(directory, data), _read_size(full, data)
    reduction = max(full_width, full_height) / max(width, height, 1)
    if reduction < _MIN_REDUCTION:
        return False
    # Each side of a preview is rounded to a whole pixel.
    return abs(full_width / reduction - width) <= 1 and abs(full_height / reduction - height) <= 1


def _is_mask(directory: Directory, data: bytes) -> bool:
    return bool(directory.read_number(data, Tag.NewSubfileType) & _MASK)


def _is_sensor_data(directory: Directory, data: bytes) -> bool:
    return directory.read_number(data, Tag.PhotometricInterpretation) in _SENSOR_DATA


def _count_pixels(directory: Directory, data: bytes) -> int:
    width, height = _read_size(directory, data)
    return width * height


def _read_size(directory: Directory, data: bytes) -> tuple[int, int]:
    return directory.read_number(data, Tag.ImageWidth), directory.read_number(data, Tag.ImageLength)
