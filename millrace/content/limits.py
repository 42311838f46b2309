"""How large content may be, and the refusals when it is not as it must be."""

from dataclasses import dataclass

from millrace.errors import InvalidRequest

MEDIA_BROKEN = "MEDIA_BROKEN"
MEDIA_TOO_LARGE = "MEDIA_TOO_LARGE"
MEDIA_TOO_MANY_PIXELS = "MEDIA_TOO_MANY_PIXELS"
MEDIA_TOO_LONG = "MEDIA_TOO_LONG"
MEDIA_ANIMATED = "MEDIA_ANIMATED"
MEDIA_TYPE_UNSUPPORTED = "MEDIA_TYPE_UNSUPPORTED"


@dataclass(frozen=True, slots=True)
class Limits:
    """From the settings of the same names; plain, so that a worker process needs no settings."""

    image_bytes_max: int
    image_pixels_max: int
    image_side_max: int
    video_bytes_max: int
    video_side_max: int
    video_duration_max_s: int

    def check_image_bytes(self, size_bytes: int) -> None:
        if size_bytes > self.image_bytes_max:
            raise refused(
                MEDIA_TOO_LARGE, f"a picture may have at most {self.image_bytes_max} bytes"
            )

    def check_video_bytes(self, size_bytes: int) -> None:
        if size_bytes > self.video_bytes_max:
            raise refused(MEDIA_TOO_LARGE, f"a film may have at most {self.video_bytes_max} bytes")

    def check_image_sides(self, width: int, height: int) -> None:
        if min(width, height) < 1:
            raise broken("the picture has no pixels")
        if max(width, height) > self.image_side_max:
            raise refused(
                MEDIA_TOO_MANY_PIXELS,
                f"{width} x {height}: a side may have at most {self.image_side_max} pixels",
            )
        if width * height > self.image_pixels_max:
            raise refused(
                MEDIA_TOO_MANY_PIXELS,
                f"{width} x {height}: a picture may have at most {self.image_pixels_max} pixels",
            )

    def check_video_sides(self, width: int, height: int) -> None:
        if min(width, height) < 1:
            raise broken("the film has no pixels")
        if max(width, height) > self.video_side_max:
            raise refused(
                MEDIA_TOO_MANY_PIXELS,
                f"{width} x {height}: a film's side may have at most {self.video_side_max} pixels",
            )

    def check_video_duration(self, duration_ms: int) -> None:
        if duration_ms > self.video_duration_max_s * 1000:
            raise refused(MEDIA_TOO_LONG, f"a film may last at most {self.video_duration_max_s} s")


def refused(reason: str, message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=reason)


def broken(message: str) -> InvalidRequest:
    return InvalidRequest(message, reason=MEDIA_BROKEN)
