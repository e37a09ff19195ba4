import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from services.contract.settings import ProducerSettings
from services.producer.images import (
    CLASSES,
    ImageSourceError,
    Pool,
    PoolFrame,
    ScenePainter,
    load_photographs,
    make_pools,
)
from services.producer.schedule import Schedule


def settings(**changes) -> ProducerSettings:
    small = {"image_width": 96, "image_height": 64, "pool_frames": 4}
    return ProducerSettings(**{"kafka_bootstrap": "broker:9092", "run_id": "run", **small, **changes})


def decode(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def picture(folder: Path, name: str, format: str, **options) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(name)).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(path, format, **options)
    return path


SCHEDULE = Schedule("constant", 5.0, 2.0)


def test_a_pool_holds_pool_frames_scenes_of_the_set_size_and_a_known_class():
    (pool,) = make_pools(settings(), SCHEDULE, [3])
    assert len(pool.frames) == 4
    for seq in range(10):
        jpeg, truth = pool.frame(seq, 0)
        image = decode(jpeg)
        assert (image.format, image.size) == ("JPEG", (96, 64))
        assert truth in CLASSES


def test_no_more_scenes_are_drawn_than_are_scheduled():
    (pool,) = make_pools(settings(pool_frames=50), SCHEDULE, [0])
    assert len(pool.frames) == 10


def test_each_sent_frame_differs_even_when_the_pool_goes_round():
    pools = make_pools(settings(), SCHEDULE, [0, 1])
    sent = {pool.frame(seq, 1000 * seq)[0] for pool in pools for seq in range(10)}
    assert len(sent) == 20


def test_the_scenes_of_one_pool_differ_in_their_pixels():
    pools = make_pools(settings(), SCHEDULE, [0, 1])
    pixels = {decode(pool.frame(seq, 0)[0]).tobytes() for pool in pools for seq in range(4)}
    assert len(pixels) == 8


def test_the_stamp_names_device_number_and_time_and_leaves_the_pixels():
    (pool,) = make_pools(settings(), SCHEDULE, [7])
    first, later = decode(pool.frame(1, 5)[0]), decode(pool.frame(5, 123456789)[0])
    assert later.info["comment"] == b"cam-0007 seq=5 intended_ns=123456789"
    assert first.tobytes() == later.tobytes()


def test_the_same_seed_draws_the_same_frames_however_processes_are_laid_out():
    (alone,) = make_pools(settings(), SCHEDULE, [1])
    together = make_pools(settings(), SCHEDULE, [0, 1])
    other_seed = make_pools(settings(seed=2), SCHEDULE, [1])
    assert alone == together[1]
    assert alone != other_seed[0]


def test_every_class_is_drawn_and_looks_different_from_the_background():
    painter = ScenePainter(settings(image_width=160, image_height=120))
    seen: dict[str, np.ndarray] = {}
    for seq in range(80):
        image, truth = painter.scene(0, seq)
        seen.setdefault(truth, np.asarray(image, np.int16))
    assert set(seen) == set(CLASSES)
    for pixels in seen.values():
        # Red is at least 190 inside a shape, and more than blue by over 100; the background's noise never is.
        inside = (pixels[..., 0] >= 190) & (pixels[..., 0] - pixels[..., 2] > 100)
        assert 0.01 < inside.mean() < 0.6


def test_the_default_size_and_quality_give_frames_of_about_40_kb():
    (pool,) = make_pools(settings(image_width=640, image_height=480), SCHEDULE, [0])
    sizes = [len(pool.frame(seq, 0)[0]) for seq in range(4)]
    assert 30_000 < min(sizes) <= max(sizes) < 50_000


@pytest.mark.parametrize(("width", "height"), [(32, 32), (33, 300), (700, 41)])
def test_odd_sizes_are_drawn_too(width, height):
    (pool,) = make_pools(settings(image_width=width, image_height=height, pool_frames=1), SCHEDULE, [0])
    assert decode(pool.frame(0, 0)[0]).size == (width, height)


def test_a_scene_larger_than_the_limit_names_the_settings():
    with pytest.raises(ImageSourceError, match="MAX_IMAGE_BYTES = 1000"):
        make_pools(settings(max_image_bytes=1000), SCHEDULE, [0])


@given(seqs=st.lists(st.integers(0, 10**9), unique=True, min_size=2, max_size=20), frames=st.integers(1, 5))
def test_stamps_make_frames_unique_for_any_sequence_numbers(seqs, frames):
    jpeg = io.BytesIO()
    Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
    pool = Pool("cam-0000", [PoolFrame.of(jpeg.getvalue(), "disc")] * frames)
    stamped = [pool.frame(seq, 1)[0] for seq in seqs]
    assert len(set(stamped)) == len(seqs)
    for data, seq in zip(stamped, seqs, strict=True):
        assert decode(data).info["comment"] == f"cam-0000 seq={seq} intended_ns=1".encode()


def test_photographs_keep_their_pixels_their_metadata_and_their_first_segment(tmp_path):
    exif = Image.Exif()
    exif[0x0110] = "camera"
    path = picture(tmp_path, "a.jpg", "JPEG", quality=70, exif=exif)
    (photograph,) = load_photographs(tmp_path, 85, 100_000)
    stamped = photograph.stamped(b"x")
    original, sent = Image.open(path), decode(stamped)
    assert sent.tobytes() == original.tobytes()
    assert sent.getexif()[0x0110] == "camera"
    assert stamped[:4] == path.read_bytes()[:4]
    assert len(stamped) == len(path.read_bytes()) + 5


def test_photographs_are_named_by_their_folder_or_themselves_and_png_becomes_jpeg(tmp_path):
    picture(tmp_path, "b/1.png", "PNG")
    picture(tmp_path, "zebra.JPG", "JPEG")
    picture(tmp_path, "cat/2.jpeg", "JPEG")
    (tmp_path / "notes.txt").write_text("not a picture")
    photographs = load_photographs(tmp_path, 85, 100_000)
    assert [photograph.truth for photograph in photographs] == ["b", "cat", "zebra"]
    assert all(decode(photograph.stamped(b"x")).format == "JPEG" for photograph in photographs)


def test_cameras_start_at_different_photographs(tmp_path):
    for name in ("one.jpg", "two.jpg", "three.jpg"):
        picture(tmp_path, name, "JPEG")
    changes = {"source": "directory", "source_directory": tmp_path}
    pools = make_pools(settings(**changes), SCHEDULE, [0, 1, 4])
    assert [[pool.frame(seq, 0)[1] for seq in range(3)] for pool in pools] == [
        ["one", "three", "two"],
        ["three", "two", "one"],
        ["three", "two", "one"],
    ]


@pytest.mark.parametrize("name", ["bad.jpg", "bad.png"])
def test_a_file_that_is_no_picture_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"hello")
    with pytest.raises(ImageSourceError, match=rf"{name} is not a whole JPEG or PNG"):
        load_photographs(tmp_path, 85, 100_000)


@pytest.mark.parametrize(("name", "format"), [("cut.jpg", "JPEG"), ("cut.png", "PNG")])
def test_a_truncated_picture_is_named(tmp_path, name, format):
    path = picture(tmp_path, name, format)
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(ImageSourceError, match=rf"{name} is not a whole JPEG or PNG"):
        load_photographs(tmp_path, 85, 100_000)


def test_a_photograph_larger_than_the_limit_is_named(tmp_path):
    picture(tmp_path, "large.jpg", "JPEG")
    with pytest.raises(ImageSourceError, match=r"large\.jpg has \d+ bytes as JPEG, more than MAX_IMAGE_BYTES = 500"):
        load_photographs(tmp_path, 85, 500)


def test_a_folder_without_pictures_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(ImageSourceError, match="has no"):
        load_photographs(tmp_path, 85, 500)
    with pytest.raises(ImageSourceError, match="is not a folder"):
        load_photographs(tmp_path / "absent", 85, 500)
