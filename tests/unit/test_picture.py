"""What a picture is, and what is left of it: against files made here by Pillow."""

import io
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import (
    Image,
    ImageChops,
    ImageCms,
    ImageFile,
    ImageOps,
    ImageStat,
    JpegImagePlugin,
    WebPImagePlugin,
)

from millrace.content.kind import Kind
from millrace.content.limits import (
    MEDIA_ANIMATED,
    MEDIA_BROKEN,
    MEDIA_TOO_LARGE,
    MEDIA_TOO_MANY_PIXELS,
    MEDIA_TYPE_UNSUPPORTED,
)
from millrace.content.picture import clean_picture
from millrace.errors import InvalidRequest
from tests.unit.pictures import (
    KINDS,
    LIMITS,
    SECRET,
    coded,
    drawing,
    exif,
    full_of_secrets,
    opened,
    other_profile,
    swapped_profile,
)

PHOTOGRAPHS = sorted((Path(__file__).parents[1] / "data" / "pictures").glob("*.jpg"))
LOSSLESS = ("PNG", "WEBP lossless")
NAMES_OF_METADATA = (
    b"Exif",
    b"GPS",
    b"xmp",
    b"XMP",
    b"Photoshop",
    b"eXIf",
    b"ICC",
    b"iCCP",
    b"tEXt",
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def reason_of(data: bytes) -> str:
    with pytest.raises(InvalidRequest) as refused:
        clean_picture(data, LIMITS)
    return refused.value.reason


def distance(one: Image.Image, other: Image.Image) -> float:
    """Mean difference of a value between two pictures of one size."""
    return max(
        ImageStat.Stat(ImageChops.difference(*(i.convert("RGB") for i in (one, other)))).mean
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_that_was_said_about_the_picture_is_left(kind: str) -> None:
    sent = full_of_secrets(kind)
    assert SECRET.encode() in sent
    clean = clean_picture(sent, LIMITS)
    assert clean.kind is Kind[kind.split()[0]]
    for word in (SECRET.encode(), *NAMES_OF_METADATA):
        assert word not in clean.data
    shown = opened(clean.data)
    assert dict(shown.getexif()) == {}
    assert not {"exif", "xmp", "comment", "icc_profile", "Author"} & shown.info.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_and_a_thumbnail_go(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    block, thumbnail = exif(), coded(drawing(16, 16), "JPEG", quality=30)
    block.get_ifd(1)[0x0201] = SECRET
    sent = coded(drawing(), kind, icc_profile=profile, exif=block.tobytes() + thumbnail)
    assert thumbnail in sent
    clean = clean_picture(sent, LIMITS)
    for word in (thumbnail, SECRET.encode(), profile[:128], *NAMES_OF_METADATA):
        assert word not in clean.data


@pytest.mark.parametrize("kind", KINDS)
def test_the_pixels_stay_as_they_are(kind: str) -> None:
    """To the last bit where the format loses nothing."""
    for mode in ("RGB",) if kind == "JPEG" else ("RGB", "RGBA"):
        sent = coded(drawing(mode=mode), kind)
        clean = opened(clean_picture(sent, LIMITS).data)
        assert clean.mode == mode
        if kind in LOSSLESS:
            assert clean.tobytes() == opened(sent).tobytes()
        else:
            assert distance(clean, opened(sent)) <= 4
        if mode == "RGBA":
            assert clean.getchannel("A").tobytes() == opened(sent).getchannel("A").tobytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_same_input_gives_the_same_bytes(kind: str, orientation: int) -> None:
    once = clean_picture(full_of_secrets(kind, orientation), LIMITS)
    assert clean_picture(full_of_secrets(kind, orientation), LIMITS) == once
    if kind in LOSSLESS:
        assert clean_picture(once.data, LIMITS) == once


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied(kind: str, orientation: int) -> None:
    sent = coded(drawing(), kind, exif=exif(orientation))
    upright = ImageOps.exif_transpose(opened(sent)).convert("RGB")
    clean = clean_picture(sent, LIMITS)
    assert (clean.width, clean.height) == upright.size
    assert (clean.width, clean.height) == ((48, 32) if orientation < 5 else (32, 48))
    assert distance(opened(clean.data), upright) <= (0 if kind in LOSSLESS else 4)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_a_jpeg_keeps_its_tables(subsampling: int) -> None:
    sent = coded(drawing(), "JPEG", quality=60, subsampling=subsampling, exif=exif(6))
    clean, sent_too = opened(clean_picture(sent, LIMITS).data), opened(sent)
    assert isinstance(clean, JpegImagePlugin.JpegImageFile)
    assert isinstance(sent_too, JpegImagePlugin.JpegImageFile)
    assert clean.quantization == sent_too.quantization
    assert JpegImagePlugin.get_sampling(clean) == subsampling


@pytest.mark.parametrize("photograph", PHOTOGRAPHS, ids=lambda path: path.stem)
def test_photographs_lose_next_to_nothing(photograph: Path) -> None:
    clean = clean_picture(photograph.read_bytes(), LIMITS)
    assert distance(opened(clean.data), opened(photograph.read_bytes())) <= 1
    assert len(clean.data) <= 1.1 * photograph.stat().st_size


@pytest.mark.parametrize("kind", KINDS)
def test_a_colour_profile_is_obeyed_and_goes(kind: str) -> None:
    sent = coded(drawing(), kind, icc_profile=swapped_profile())
    clean = opened(clean_picture(sent, LIMITS).data)
    assert "icc_profile" not in clean.info
    red, green, blue = clean.convert("RGB").getpixel((3, 3))  # type: ignore[misc]
    assert blue > 120
    assert blue > red
    assert blue > green


def test_srgb_by_another_name_changes_no_pixel() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    sent = coded(drawing(), "JPEG", icc_profile=profile)
    assert clean_picture(sent, LIMITS) == clean_picture(coded(drawing(), "JPEG"), LIMITS)


@pytest.mark.parametrize("profile", [b"no profile", other_profile()], ids=["junk", "lab"])
def test_a_profile_that_makes_no_sense_is_disregarded(profile: bytes) -> None:
    for kind in KINDS:
        sent = coded(drawing(), kind, icc_profile=profile)
        assert clean_picture(sent, LIMITS) == clean_picture(coded(drawing(), kind), LIMITS)


def test_alpha_survives_a_profile() -> None:
    for kind in LOSSLESS:
        sent = coded(drawing(mode="RGBA"), kind, icc_profile=swapped_profile())
        clean = opened(clean_picture(sent, LIMITS).data)
        assert clean.getchannel("A").tobytes() == opened(sent).getchannel("A").tobytes()


@pytest.mark.parametrize("profile", [None, b"no profile", swapped_profile()])
def test_cmyk_becomes_rgb(profile: bytes | None) -> None:
    options = {} if profile is None else {"icc_profile": profile}
    sent = coded(drawing(mode="CMYK"), "JPEG", **options)
    assert opened(sent).mode == "CMYK"
    clean = opened(clean_picture(sent, LIMITS).data)
    assert clean.mode == "RGB"
    assert distance(clean, drawing()) <= 4


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16"])
def test_every_kind_of_png_passes_and_turns(mode: str) -> None:
    image = drawing(mode="L" if mode == "I;16" else "RGB").convert(mode)
    for orientation in (1, 6):
        sent = coded(image, "PNG", exif=exif(orientation))
        clean = opened(clean_picture(sent, LIMITS).data)
        assert clean.tobytes() == ImageOps.exif_transpose(opened(sent)).tobytes()


@pytest.mark.parametrize("orientation", [1, 3])
def test_the_gamma_of_a_png_stays(orientation: int) -> None:
    sent = coded(drawing(), "PNG", exif=exif(orientation))
    gamma = png_chunk(b"gAMA", (100_000).to_bytes(4, "big"))
    hidden = png_chunk(b"sBIT", SECRET.encode())
    sent = sent[:33] + gamma + hidden + sent[33:]
    clean = clean_picture(sent, LIMITS)
    assert gamma in clean.data
    assert SECRET.encode() not in clean.data


def png_chunk(name: bytes, body: bytes) -> bytes:
    crc = zlib.crc32(body, zlib.crc32(name))
    return len(body).to_bytes(4, "big") + name + body + crc.to_bytes(4, "big")


def test_a_progressive_jpeg_passes_whole() -> None:
    sent = coded(drawing(200, 150), "JPEG", progressive=True, exif=exif(1))
    clean = opened(clean_picture(sent, LIMITS).data)
    assert distance(clean, opened(sent)) <= 1
    assert clean.info["progressive"]


def test_of_a_multi_picture_jpeg_the_first_stays() -> None:
    out = io.BytesIO()
    drawing().save(out, "MPO", save_all=True, append_images=[drawing(mode="L")])
    clean = clean_picture(out.getvalue(), LIMITS)
    assert clean.kind is Kind.JPEG
    assert opened(clean.data).format == "JPEG"
    assert (clean.width, clean.height) == drawing().size


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *((kind, {}) for kind in KINDS),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_rows": 1}),
        ("JPEG", {"subsampling": 2}),
    ],
)
def test_a_picture_cut_short_anywhere_is_broken_or_whole(
    kind: str, options: dict[str, object]
) -> None:
    """Of a PNG only the checksum of its end may be missing."""
    sent = coded(drawing(), kind, exif=exif(6), **options)
    whole = clean_picture(sent, LIMITS)
    spare = 4 if kind == "PNG" else 0
    for length in range(len(sent)):
        if length < len(sent) - spare:
            assert reason_of(sent[:length]) in (MEDIA_BROKEN, MEDIA_TYPE_UNSUPPORTED), length
        else:
            assert clean_picture(sent[:length], LIMITS) == whole


@pytest.mark.parametrize("options", [{}, {"restart_marker_rows": 1}, {"subsampling": 2}])
def test_a_jpeg_that_was_cut_short_and_ended_is_broken(options: dict[str, object]) -> None:
    """Pillow alone makes grey rows of what is missing. A few blocks at the end may be."""
    sent = coded(Image.open(PHOTOGRAPHS[0]).convert("RGB").resize((120, 90)), "JPEG", **options)
    whole = opened(sent)
    passed = 0
    for length in range(0, len(sent) - 2, 3):
        ended = sent[:length] + b"\xff\xd9"
        try:
            clean_picture(ended, LIMITS)
        except InvalidRequest:
            continue
        wrong = (
            ImageChops.difference(whole, opened(ended)).convert("L").point(lambda v: 255 * (v > 0))
        )
        assert ImageStat.Stat(wrong).mean[0] <= 255 * 0.02
        passed += 1
    assert passed <= 20


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damage_is_refused_or_does_no_harm(kind: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(full_of_secrets(kind, 6))
    for _ in range(chance.randint(1, 8)):
        data[chance.randrange(len(data))] = chance.randrange(256)
    try:
        clean = clean_picture(bytes(data), LIMITS)
    except InvalidRequest:
        return
    assert opened(clean.data).size == (clean.width, clean.height)


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_noise_is_refused(data: bytes) -> None:
    assert reason_of(data) in (MEDIA_TYPE_UNSUPPORTED, MEDIA_BROKEN)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF"])
def test_what_moves_is_refused(kind: str) -> None:
    out = io.BytesIO()
    drawing().save(out, kind, save_all=True, append_images=[drawing(mode="L")], duration=100)
    assert reason_of(out.getvalue()) == MEDIA_ANIMATED


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "ICO", "AVIF"])
def test_other_types_are_refused(kind: str) -> None:
    out = io.BytesIO()
    drawing().save(out, kind)
    assert reason_of(out.getvalue()) == MEDIA_TYPE_UNSUPPORTED


def test_too_many_bytes_are_refused() -> None:
    padded = coded(drawing(), "JPEG") + b"\x00" * LIMITS.image_bytes_max
    assert reason_of(padded) == MEDIA_TOO_LARGE


@pytest.mark.parametrize("size", [(2_001, 1), (1, 2_001), (1_001, 1_000)])
@pytest.mark.parametrize("kind", KINDS)
def test_too_many_pixels_are_refused(kind: str, size: tuple[int, int]) -> None:
    assert reason_of(coded(Image.new("RGB", size), kind)) == MEDIA_TOO_MANY_PIXELS


def test_a_bomb_is_refused_by_its_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says 12,000 x 12,000 or more; none is decoded."""

    def exploded(*_: object) -> None:
        raise AssertionError("a bomb was decoded")

    for decoder in (ImageFile.ImageFile, WebPImagePlugin.WebPImageFile):
        monkeypatch.setattr(decoder, "load", exploded)
    side = (12_000).to_bytes(4, "big")
    png = coded(drawing(), "PNG")
    header = png_chunk(b"IHDR", side + side + png[24:29])
    assert reason_of(PNG_SIGNATURE + header + png[33:]) == MEDIA_TOO_MANY_PIXELS
    jpeg = bytearray(coded(drawing(), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = side[2:] * 2
    assert reason_of(bytes(jpeg)) == MEDIA_TOO_MANY_PIXELS
    webp = bytearray(coded(drawing(), "WEBP"))
    webp[26:30] = (12_000).to_bytes(2, "little") * 2
    assert reason_of(bytes(webp)) == MEDIA_TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["WEBP", "WEBP lossless"])
def test_two_sizes_in_one_webp_are_broken(kind: str) -> None:
    webp = bytearray(coded(drawing(mode="RGBA"), kind, exif=exif(1)))
    assert webp[12:16] == b"VP8X"
    webp[24] += 1
    assert reason_of(bytes(webp)) == MEDIA_BROKEN
