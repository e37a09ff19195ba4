"""JPEG and PNG bytes to the 224×224 RGB array that the network takes.

Decoder and resize filter are pinned, because others gave other top-1 classes for the same JPEG: libjpeg-turbo (through
simplejpeg) decodes at the smallest of its DCT scales that still covers the target, then Pillow resizes with its
bilinear filter, which averages over the whole source area when it shrinks. The frame is squashed to a square, and an
EXIF orientation is not applied: cameras send frames upright.
"""

import io
from importlib.metadata import version
from typing import Final

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image

from services.inference_server.errors import ApiError

SIDE: Final = 224
"""Height and width of the network's input, pixels."""

Pixels = npt.NDArray[np.uint8]

_JPEG_MAGIC: Final = b"\xff\xd8\xff"
_PNG_MAGIC: Final = b"\x89PNG\r\n\x1a\n"


def describe() -> dict[str, str]:
    """Names and versions of what turns bytes into pixels."""
    return {
        "jpeg_decoder": f"simplejpeg {version('simplejpeg')}, smallest DCT scale of at least {SIDE} pixels",
        "png_decoder": f"Pillow {version('pillow')}",
        "resize_filter": f"Pillow {version('pillow')} BILINEAR to {SIDE}x{SIDE}, aspect ratio not kept",
    }


def to_array(data: bytes, max_pixels: int | None = None) -> Pixels:
    """Decode a JPEG or PNG to uint8 of shape (224, 224, 3), RGB.

    Raises `ApiError` 400 when `data` is no whole JPEG or PNG, 413 when it has more than `max_pixels` pixels (which its
    header tells, before memory is taken for them).
    """
    if data.startswith(_JPEG_MAGIC):
        return _decode_jpeg(data, max_pixels)
    if data.startswith(_PNG_MAGIC):
        return _decode_with_pillow(data, "PNG", max_pixels)
    raise ApiError(400, "not_an_image", "the body is neither a JPEG nor a PNG; send one of these")


def _decode_jpeg(data: bytes, max_pixels: int | None) -> Pixels:
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        _check_pixels(width, height, max_pixels)
        if colorspace in ("CMYK", "YCCK"):  # libjpeg-turbo does not turn these into RGB
            return _decode_with_pillow(data, "JPEG", max_pixels)
        pixels = simplejpeg.decode_jpeg(data, "RGB", min_height=SIDE, min_width=SIDE)
    except ValueError as error:
        raise ApiError(400, "not_an_image", f"the JPEG is damaged: {error}") from None
    return _resize(Image.fromarray(pixels))


def _decode_with_pillow(data: bytes, kind: str, max_pixels: int | None) -> Pixels:
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            _check_pixels(image.width, image.height, max_pixels)
            return _resize(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise ApiError(400, "not_an_image", f"the {kind} is damaged: {error}") from None
    except Image.DecompressionBombError as error:
        raise ApiError(413, "too_many_pixels", str(error)) from None


def _check_pixels(width: int, height: int, max_pixels: int | None) -> None:
    if max_pixels is not None and width * height > max_pixels:
        raise ApiError(413, "too_many_pixels", f"{width}x{height} is more than {max_pixels} pixels")


def _resize(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
