"""A picture file after its container was taken apart and put together with less."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Stripped:
    """`data` is a whole file of the same kind whose pixels are coded as they were sent.

    `width` and `height` are as coded, before `orientation` (EXIF, 1 to 8) is applied. `icc` is
    the colour profile that was taken out; empty where there was none. `lossless`: the format
    can be either and this one keeps every pixel. `colour`: chunks that a new encoding must
    carry on, since they say what the values mean.
    """

    data: bytes
    width: int
    height: int
    animated: bool = False
    orientation: int = 1
    icc: bytes = b""
    lossless: bool = False
    colour: tuple[tuple[bytes, bytes], ...] = field(default=())
