import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.inference_server.decode import SIDE, describe, to_array
from services.inference_server.errors import ApiError


def encode(picture: np.ndarray, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **options)
    return buffer.getvalue()


def scene(width: int, height: int) -> np.ndarray:
    """A smooth colour field: what it looks like small does not hang on the decoder."""
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


@given(width=st.integers(1, 900), height=st.integers(1, 700), kind=st.sampled_from(["JPEG", "PNG"]))
def test_any_size_becomes_the_square_with_the_same_colours_in_place(width, height, kind):
    grey = np.full((height, width, 3), (200, 100, 50), np.uint8)
    pixels = to_array(encode(grey, kind))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("size", [(640, 480), (224, 224), (100, 300), (2000, 1500)])
def test_scaled_decoding_shows_the_same_picture_as_full_decoding(size):
    data = encode(scene(*size), "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as whole:
        expected = np.asarray(whole.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert np.abs(to_array(data).astype(int) - expected).mean() < 1.5


def test_png_and_jpeg_of_the_same_picture_are_close():
    picture = scene(640, 480)
    difference = to_array(encode(picture, "PNG")).astype(int) - to_array(encode(picture, "JPEG", quality=95))
    assert np.abs(difference).mean() < 2


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "L"), ("PNG", "RGBA"), ("PNG", "P")]
)
def test_other_colour_spaces_become_rgb(make_image, kind, mode):
    pixels = to_array(make_image(128, kind=kind, mode=mode))
    assert np.abs(pixels.astype(int) - 128).max() <= 3


def test_decoding_is_deterministic(make_image):
    data = encode(scene(640, 480), "JPEG")
    assert np.array_equal(to_array(data), to_array(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_not_an_image(kind, keep):
    data = encode(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8), kind)
    with pytest.raises(ApiError) as error:
        to_array(data[: int(len(data) * keep)])
    assert (error.value.status, error.value.reason) == (400, "not_an_image")


@given(st.binary(max_size=300), st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_rubbish_is_not_an_image(tail, magic):
    with pytest.raises(ApiError) as error:
        to_array(magic + tail)
    assert error.value.reason == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_too_many_pixels_are_refused_by_the_header_alone(make_image, kind):
    data = make_image(size=(300, 200), kind=kind)
    assert to_array(data, 60_000).shape == (SIDE, SIDE, 3)
    with pytest.raises(ApiError, match="300x200 is more than 59999 pixels") as error:
        to_array(data, 59_999)
    assert error.value.status == 413


def test_description_names_decoder_and_filter_with_versions():
    text = describe()
    assert "simplejpeg 1." in text["jpeg_decoder"]
    assert "BILINEAR" in text["resize_filter"]
