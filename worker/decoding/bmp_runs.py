"""Run-length data of a BMP (BI_RLE8, BI_RLE4), decoded to the same pixels as by Pillow.

Pillow's own decoder is a loop over pixels in Python, which fills the rest of a row one by one: a kilobyte of ends of
lines takes it a second.  Here the loop is over marks.
"""

from dataclasses import dataclass, field
from io import BytesIO

from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import _Tile

_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2
_NIBBLES = [bytes((value >> 4, value & 15)) for value in range(256)]


def replace_runs(image: BmpImageFile) -> None:
    """Decode the pixels of an image whose tile is run-length data, and let Pillow read them as they are."""
    tile = image.tile[0]
    assert image.fp is not None
    assert isinstance(tile.args, tuple)
    _, is_four_bit, direction = tile.args
    image.fp.seek(tile.offset)
    pixels = _Runs(BytesIO(image.fp.read()), tile.offset, image.size, bool(is_four_bit)).decode()
    image.fp = BytesIO(pixels)
    image.tile = [_Tile("raw", tile.extents, 0, ("L" if image.mode in ("1", "L") else "P", 0, direction))]


@dataclass(slots=True)
class _Runs:
    """start: where the data is in its file, for the alignment of literal pixels."""

    data: BytesIO
    start: int
    size: tuple[int, int]
    is_four_bit: bool
    pixels: bytearray = field(default_factory=bytearray)
    x: int = 0

    def decode(self) -> bytes:
        """Return one byte for each pixel, row by row as stored."""
        area = self.size[0] * self.size[1]
        while len(self.pixels) < area and len(mark := self.data.read(2)) == 2:
            count, value = mark
            if count:
                self._repeat(count, value)
            elif not self._obey(value, area - len(self.pixels)):
                break
        return bytes(self.pixels)

    def _repeat(self, count: int, value: int) -> None:
        if self.x + count > self.size[0]:
            count = max(0, self.size[0] - self.x)
        pair = _NIBBLES[value] if self.is_four_bit else bytes((value, value))
        self.pixels += (pair * (count // 2 + 1))[:count]
        self.x += count

    def _obey(self, value: int, missing: int) -> bool:
        """Carry out a mark that is no run; return whether others follow."""
        width = self.size[0]
        if value == _END_OF_LINE:
            self.pixels += bytes(-len(self.pixels) % width)
            self.x = 0
            return True
        if value == _END_OF_BITMAP:
            return False
        return self._move(missing) if value == _DELTA else self._copy(value, missing)

    def _move(self, missing: int) -> bool:
        offsets = self.data.read(2)
        if len(offsets) < 2:
            return False
        self.pixels += bytes(min(missing, offsets[0] + offsets[1] * self.size[0]))
        self.x = len(self.pixels) % self.size[0]
        return True

    def _copy(self, count: int, missing: int) -> bool:
        wanted = min(missing, count)
        nbytes = (wanted + 1) // 2 if self.is_four_bit else wanted
        literal = self.data.read(nbytes)
        self.pixels += b"".join(map(_NIBBLES.__getitem__, literal))[:wanted] if self.is_four_bit else literal
        if len(literal) < nbytes or wanted == missing:
            return False
        self.x += count
        if (self.start + self.data.tell()) % 2:
            self.data.read(1)
        return True
