"""The pictures that the cameras send: seeded synthetic scenes, or a folder of photographs.

Everything costly happens before the clock starts: each camera gets a `Pool` of encoded JPEG frames. While the schedule
runs, a frame only gets a comment segment (COM, ITU-T T.81 B.2.4.5) with device, sequence number and intended time.
That is a few microseconds' work, leaves every pixel as it is, and makes each sent frame different even when a pool is
used more than once.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, UnidentifiedImageError

from services.contract.settings import ProducerSettings
from services.producer.schedule import Schedule, device_id

_SCENE_STREAM: Final = 2  # keeps these random numbers apart from those of the arrivals
_TILE: Final = 256
_GRAIN: Final = 3.5  # standard deviation of the sensor noise; makes a 640x480 frame of quality 85 about 40 KB
_STAMP_BYTES: Final = 128  # no comment segment is longer


class ImageSourceError(ValueError):
    """A picture that can't be sent; the text names the file or the setting and what to do."""


@dataclass(frozen=True, slots=True)
class PoolFrame:
    """One encoded JPEG, cut where the comment segment goes."""

    head: bytes
    tail: bytes
    truth: str

    @classmethod
    def of(cls, jpeg: bytes, truth: str) -> "PoolFrame":
        """Cut `jpeg` after its leading APPn segments, since JFIF and Exif want theirs to come first."""
        cut = 2
        while jpeg[cut] == 0xFF and 0xE0 <= jpeg[cut + 1] <= 0xEF:
            cut += 2 + int.from_bytes(jpeg[cut + 2 : cut + 4], "big")
        return cls(jpeg[:cut], jpeg[cut:], truth)

    def stamped(self, comment: bytes) -> bytes:
        """The JPEG with `comment` as a COM segment."""
        marker = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big")
        return b"".join((self.head, marker, comment, self.tail))


@dataclass(frozen=True)
class Pool:
    """The encoded frames of one camera, sent in turn, from number `first` on."""

    device: str
    frames: Sequence[PoolFrame]
    first: int = 0

    def frame(self, seq: int, intended_ns: int) -> tuple[bytes, str]:
        """(JPEG, truth) of frame `seq`; no two calls with different arguments give the same bytes."""
        frame = self.frames[(self.first + seq) % len(self.frames)]
        return frame.stamped(f"{self.device} seq={seq} intended_ns={intended_ns}".encode()), frame.truth


def make_pools(settings: ProducerSettings, schedule: Schedule, devices: Sequence[int]) -> list[Pool]:
    """The pool of each device (global indices), in order. Raises `ImageSourceError`."""
    if settings.source == "directory":
        assert settings.source_directory is not None  # the settings have checked it
        photographs = load_photographs(settings.source_directory, settings.jpeg_quality, settings.max_image_bytes)
        return [Pool(device_id(index), photographs, first=index) for index in devices]
    painter = ScenePainter(settings)
    return [painter.pool(index, schedule.offsets_ns(index)[: settings.pool_frames]) for index in devices]


class ScenePainter:
    """Draws scenes of known class: one coloured shape on a grainy background, with a caption.

    A scene depends on the seed, the device and the sequence number alone, so a repeated run sends the same pictures.
    """

    def __init__(self, settings: ProducerSettings) -> None:
        self._seed = settings.seed
        self._size = (settings.image_width, settings.image_height)
        self._quality = settings.jpeg_quality
        self._limit_bytes = settings.max_image_bytes
        self._font = ImageFont.load_default(max(8, settings.image_height // 24))
        self._grain = self._make_grain()

    def _make_grain(self) -> NDArray[np.uint8]:
        """Noise in which every scene's background is a window: shape (height + tile, width + tile, 3), uint8."""
        rng = np.random.default_rng([self._seed, _SCENE_STREAM])
        tile = (
            110 + _GRAIN * rng.standard_normal((_TILE, _TILE, 1)) + _GRAIN / 2 * rng.standard_normal((_TILE, _TILE, 3))
        )
        width, height = self._size
        repeats = (height // _TILE + 2, width // _TILE + 2, 1)
        return np.tile(tile.clip(0, 255).astype(np.uint8), repeats)[: height + _TILE, : width + _TILE]

    def pool(self, index: int, offsets_ns: NDArray[np.int64]) -> Pool:
        """One scene per entry of `offsets_ns`, the intended times after the start that are drawn in."""
        frames = [self._frame(index, seq, offset) for seq, offset in enumerate(offsets_ns.tolist())]
        return Pool(device_id(index), frames)

    def _frame(self, index: int, seq: int, offset_ns: int) -> PoolFrame:
        image, truth = self.scene(index, seq)
        caption = f"{device_id(index)}  #{seq:06d}  t+{offset_ns / 1e9:.3f} s  {truth}"
        width, height = self._size
        draw = ImageDraw.Draw(image)
        bar = height // 16 + 4
        draw.rectangle((0, height - bar, width, height), fill=(16, 16, 16))
        draw.text((6, height - bar // 2), caption, fill=(240, 240, 240), font=self._font, anchor="lm")
        jpeg = _encode(image, self._quality)
        if len(jpeg) + _STAMP_BYTES > self._limit_bytes:
            raise ImageSourceError(
                f"a synthetic {width}x{height} JPEG of quality {self._quality} has {len(jpeg)} bytes, more than "
                f"MAX_IMAGE_BYTES = {self._limit_bytes}: raise that, or lower IMAGE_WIDTH, IMAGE_HEIGHT or JPEG_QUALITY"
            )
        return PoolFrame.of(jpeg, truth)

    def scene(self, index: int, seq: int) -> tuple[Image.Image, str]:
        """(RGB picture without caption, class) of one frame of a device."""
        rng = np.random.default_rng([self._seed, _SCENE_STREAM, index, seq])
        width, height = self._size
        down, right = rng.integers(0, _TILE, 2)
        background = self._grain[down : down + height, right : right + width] + rng.integers(0, 60, 3, np.uint8)
        image = Image.fromarray(background)
        truth = CLASSES[rng.integers(len(CLASSES))]
        radius = rng.uniform(0.15, 0.3) * min(width, height)
        centre = (rng.uniform(radius, width - radius), rng.uniform(radius, height - radius))
        colour = (int(rng.integers(190, 256)), int(rng.integers(0, 256)), int(rng.integers(0, 80)))
        _draw_shape(image, truth, _Outline(centre[0], centre[1], radius, rng.uniform(0, 2 * pi)), colour)
        return image, truth


@dataclass(frozen=True, slots=True)
class _Outline:
    x: float
    y: float
    radius: float
    turn: float

    def corners(self, radii: Sequence[float]) -> list[tuple[float, float]]:
        """Points at even angles, each at its fraction of the radius."""
        angles = [self.turn + 2 * pi * corner / len(radii) for corner in range(len(radii))]
        return [
            (self.x + self.radius * r * cos(a), self.y + self.radius * r * sin(a))
            for r, a in zip(radii, angles, strict=True)
        ]


_POLYGONS: Final = {
    "triangle": (1.0,) * 3,
    "square": (1.0,) * 4,
    "hexagon": (1.0,) * 6,
    "star": (1.0, 0.4) * 5,
    "cross": (1.0, 0.35, 0.35) * 4,
}
CLASSES: Final = (*_POLYGONS, "disc", "ring")
"""What a synthetic camera can see; a frame's `truth` is one of these."""


def _draw_shape(image: Image.Image, truth: str, outline: _Outline, colour: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(image)
    if truth in _POLYGONS:
        draw.polygon(outline.corners(_POLYGONS[truth]), fill=colour)
        return
    x, y, r = outline.x, outline.y, outline.radius
    if truth == "disc":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    else:
        draw.ellipse((x - r, y - r, x + r, y + r), outline=colour, width=max(1, int(r / 3)))


def load_photographs(folder: Path, quality: int, max_bytes: int) -> list[PoolFrame]:
    """The JPEG files (sent as they are) and PNG files (encoded anew) of `folder` and below, in order of their paths.

    A photograph's `truth` is its subfolder's name, as in a folder-per-class data set, or else its own without the
    suffix. Raises `ImageSourceError` naming the file.
    """
    if not folder.is_dir():
        raise ImageSourceError(f"SOURCE_DIRECTORY {folder} is not a folder")
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if not paths:
        raise ImageSourceError(f"SOURCE_DIRECTORY {folder} has no .jpg, .jpeg or .png file")
    return [
        _photograph(path, path.stem if path.parent == folder else path.parent.name, quality, max_bytes)
        for path in paths
    ]


def _photograph(path: Path, truth: str, quality: int, max_bytes: int) -> PoolFrame:
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
            image.load()  # a truncated file must fail here, not in the pipeline
            if image.format == "PNG":
                data = _encode(image.convert("RGB"), quality)
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageSourceError(f"{path} is not a whole JPEG or PNG picture: {error}") from None
    if len(data) + _STAMP_BYTES > max_bytes:
        raise ImageSourceError(
            f"{path} has {len(data)} bytes as JPEG, more than MAX_IMAGE_BYTES = {max_bytes}: "
            "raise that or shrink the file"
        )
    return PoolFrame.of(data, truth)


def _encode(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
