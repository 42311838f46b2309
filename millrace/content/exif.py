"""The one thing that is wanted from EXIF: which way is up."""

from PIL import Image

_ORIENTATION = 0x0112


def orientation_of(exif: bytes) -> int:
    """1 to 8; 1 (as it is) where the block says nothing or nonsense.

    `exif` with or without its leading "Exif\\0\\0".
    """
    block = Image.Exif()
    try:
        block.load(exif)
        value = block.get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - a broken block may raise anything; it only loses its say
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1
