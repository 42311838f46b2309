"""One page of a feed as a picture: the media as downloaded, with author, caption and likes."""

import colorsys
import io
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps

_COLUMNS = 4
_CARD = 272
_GAP = 22
_MARGIN = 40
_HEADER = 104
_STRIP = 52  # above a picture: who
_FOOT = 82  # below it: likes and caption
_CAPTION_CHARS = 34
_CAPTION_LINES = 2
_RADIUS = 14
_SMOOTH = 4
_PAPER, _CARD_PAPER, _EDGE = "#f4f1ec", "#ffffff", "#e2dcd2"
_INK, _FAINT, _HEART = "#23201d", "#8b847a", "#d9364a"


@dataclass(frozen=True, slots=True)
class Card:
    """One item of a feed. `picture`: the bytes of its file."""

    picture: bytes
    handle: str
    caption: str
    likes: int
    liked: bool


def draw_feed(file: Path, title: str, subtitle: str, cards: Sequence[Card]) -> None:
    """Writes a PNG, four cards a row."""
    rows = max(-(-len(cards) // _COLUMNS), 1)
    card_height = _STRIP + _CARD + _FOOT
    width = 2 * _MARGIN + _COLUMNS * _CARD + (_COLUMNS - 1) * _GAP
    height = _HEADER + rows * card_height + (rows - 1) * _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(sheet)
    _avatar(sheet, title, _MARGIN, 30, 50)
    pen.text((_MARGIN + 64, 28), title, _INK, _font(26), stroke_width=0.4, stroke_fill=_INK)
    pen.text((_MARGIN + 64, 62), subtitle, _FAINT, _font(15))
    for i, card in enumerate(cards):
        left = _MARGIN + i % _COLUMNS * (_CARD + _GAP)
        top = _HEADER + i // _COLUMNS * (card_height + _GAP)
        _draw_card(sheet, card, left, top, card_height)
    file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(file, optimize=True)


def _draw_card(sheet: Image.Image, card: Card, left: int, top: int, height: int) -> None:
    pen = ImageDraw.Draw(sheet)
    box = (left, top, left + _CARD, top + height)
    pen.rounded_rectangle(box, _RADIUS, fill=_CARD_PAPER, outline=_EDGE)
    _avatar(sheet, card.handle, left + 12, top + 10, 32)
    pen.text(
        (left + 54, top + 26), card.handle, _INK, _font(15), anchor="lm",
        stroke_width=0.2, stroke_fill=_INK,
    )  # fmt: skip
    with Image.open(io.BytesIO(card.picture)) as picture:
        shown = ImageOps.fit(picture.convert("RGB"), (_CARD - 2, _CARD), Image.Resampling.LANCZOS)
    sheet.paste(shown, (left + 1, top + _STRIP))
    foot = top + _STRIP + _CARD
    _heart(sheet, left + 14, foot + 12, 18, filled=card.liked)
    likes = f"{card.likes:,} like{'' if card.likes == 1 else 's'}"
    pen.text((left + 40, foot + 21), likes, _INK, _font(14), anchor="lm")
    lines = textwrap.wrap(card.caption, _CAPTION_CHARS, max_lines=_CAPTION_LINES, placeholder=" …")
    for i, line in enumerate(lines):
        pen.text((left + 14, foot + 38 + 19 * i), line, _FAINT, _font(14))


def _avatar(sheet: Image.Image, name: str, left: int, top: int, size: int) -> None:
    """A disc with the initial; the colour is the name's."""
    hue = crc32(name.encode()) % 360 / 360
    red, green, blue = (round(255 * part) for part in colorsys.hls_to_rgb(hue, 0.5, 0.42))

    def disc(pen: ImageDraw.ImageDraw, unit: float) -> None:
        pen.ellipse((0, 0, unit, unit), fill=255)

    _stamp(sheet, disc, (left, top), size, (red, green, blue))
    middle = (left + size / 2, top + size / 2)
    pen = ImageDraw.Draw(sheet)
    pen.text(middle, name[:1].upper(), "white", _font(round(size * 0.5)), anchor="mm")


def _heart(sheet: Image.Image, left: int, top: int, size: int, *, filled: bool) -> None:
    def heart(pen: ImageDraw.ImageDraw, unit: float) -> None:
        lobe = 0.54 * unit
        pen.ellipse((0, 0.04 * unit, lobe, 0.04 * unit + lobe), fill=255)
        pen.ellipse((unit - lobe, 0.04 * unit, unit, 0.04 * unit + lobe), fill=255)
        shoulders = [(0.06 * unit, 0.46 * unit), (0.94 * unit, 0.46 * unit)]
        pen.polygon([*shoulders, (0.5 * unit, 0.96 * unit)], fill=255)
        pen.rectangle((0.3 * unit, 0.28 * unit, 0.7 * unit, 0.5 * unit), fill=255)

    _stamp(sheet, heart, (left, top), size, ImageColor.getrgb(_HEART if filled else _FAINT))


def _stamp(
    sheet: Image.Image,
    shape: Callable[[ImageDraw.ImageDraw, float], None],
    at: tuple[int, int],
    size: int,
    colour: tuple[int, ...],
) -> None:
    """A shape with smooth edges: drawn larger, then made smaller."""
    large = Image.new("L", (size * _SMOOTH, size * _SMOOTH))
    shape(ImageDraw.Draw(large), size * _SMOOTH - 1)
    mask = large.resize((size, size), Image.Resampling.LANCZOS)
    sheet.paste(Image.new("RGB", (size, size), colour), at, mask)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
