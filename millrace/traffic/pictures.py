"""Pictures that people upload: photographs cropped, turned and tinted by a seed.

(seed, n) decides the bytes, given one version of Pillow; a few milliseconds each. The
photographs are opened once and kept at a size from which a crop is quick.
"""

import io
import math
import random
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from millrace.errors import InvalidRequest

SIDE_PX = 640
_SOURCE_SIDE_PX = 800
_JPEG_QUALITY = 82
_TURN_DEGREES_MAX = 8.0
_TINT_MAX = 0.3
_SHAPES = ((1, 1), (4, 5), (5, 4), (16, 9))
_WORDS = ("morning", "light", "home", "again", "slowly", "north", "today", "found", "quiet", "blue")


class Pictures:
    """Makes pictures from the photographs (*.jpg) of one folder."""

    def __init__(self, folder: Path) -> None:
        files = sorted(folder.glob("*.jpg"))
        if not files:
            raise InvalidRequest(f"no photographs in {folder.name}")
        self._sources = [_source(file) for file in files]

    def jpeg(self, seed: int, n: int) -> bytes:
        """The n-th picture of a seed; its longer side is `SIDE_PX`."""
        chance = _chance(seed, n)
        image = chance.choice(self._sources)
        image = _cropped(image, chance)
        if chance.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        out = io.BytesIO()
        _tinted(image, chance).save(out, "JPEG", quality=_JPEG_QUALITY)
        return out.getvalue()


def posts(folder: Path, count: int, seed: int) -> Iterator[tuple[bytes, str]]:
    """(picture, caption) for n from 0."""
    pictures = Pictures(folder)
    for n in range(count):
        yield pictures.jpeg(seed, n), caption(seed, n)


def caption(seed: int, n: int) -> str:
    chance = _chance(seed, ~n)
    return f"{' '.join(chance.sample(_WORDS, chance.randint(1, 3)))} #{n}"


def _chance(seed: int, n: int) -> random.Random:
    return random.Random(f"{seed}:{n}")  # noqa: S311 - pictures, not secrets


def _source(file: Path) -> Image.Image:
    image = Image.open(file).convert("RGB")
    scale = _SOURCE_SIDE_PX / max(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)))


def _cropped(image: Image.Image, chance: random.Random) -> Image.Image:
    """A part of some shape, turned a little; small enough that no corner falls outside."""
    across, down = chance.choice(_SHAPES)
    turn = math.radians(chance.uniform(-_TURN_DEGREES_MAX, _TURN_DEGREES_MAX))
    cos, sin = math.cos(turn), math.sin(turn)
    # Half the sides of the upright box around a turned part whose longer side is 1.
    wide, high = across / max(across, down), down / max(across, down)
    box = (wide * cos + high * abs(sin)) / 2, (wide * abs(sin) + high * cos) / 2
    longest = min(image.width / box[0], image.height / box[1]) / 2 - 1
    longest *= chance.uniform(0.6, 1.0)
    middle = [
        chance.uniform(half * longest, side - half * longest)
        for half, side in zip(box, image.size, strict=True)
    ]
    size = round(SIDE_PX * wide), round(SIDE_PX * high)
    scale = longest / SIDE_PX
    a, b = cos * scale, sin * scale
    left = middle[0] - (a * size[0] + b * size[1]) / 2
    top = middle[1] - (a * size[1] - b * size[0]) / 2
    affine = (a, b, left, -b, a, top)
    return image.transform(size, Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)


def _tinted(image: Image.Image, chance: random.Random) -> Image.Image:
    colour = tuple(chance.randrange(256) for _ in range(3))
    tint = Image.new("RGB", image.size, colour)
    return Image.blend(image, tint, chance.uniform(0.0, _TINT_MAX))
