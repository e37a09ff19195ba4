"""Which decoder: time of JPEG bytes to the network's input, and how far each is from decoding the whole picture.

The network's input is what a decoder gives, resized; what the one in use takes without that is timed, too.

``python -m benchmarks.inference.decoders`` is the measurement behind the decoder that
`services.inference_server.decode` pins.
"""

import io
import statistics
import time
from collections.abc import Callable
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image

from benchmarks.inference.frames import make_frames
from benchmarks.targets import Verdict, print_verdicts, spread
from services.inference_server.decode import SIDE, Pixels, to_array

_ROUNDS: Final = 15
_PINNED: Final = "simplejpeg, DCT scale (pinned)"
_ALONE: Final = "  of it decoding, not resizing"
_TARGET_MS: Final = 2.0
_AS_FAST: Final = 0.95
"""Two decoders nearer to each other than this are equally fast."""


def _resize(image: Image.Image) -> Pixels:
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def pillow(jpeg: bytes) -> Pixels:
    """Pillow, whole picture."""
    return _resize(Image.open(io.BytesIO(jpeg)).convert("RGB"))


def pillow_draft(jpeg: bytes) -> Pixels:
    """Pillow with `draft`: the DCT scales the picture down."""
    image = Image.open(io.BytesIO(jpeg))
    image.draft("RGB", (SIDE, SIDE))
    return _resize(image.convert("RGB"))


def whole_simplejpeg(jpeg: bytes) -> Pixels:
    """simplejpeg, whole picture."""
    return _resize(Image.fromarray(simplejpeg.decode_jpeg(jpeg, "RGB")))


def decode_alone(jpeg: bytes) -> Pixels:
    """The decoder in use without the resizing: uint8 of the picture at the DCT scale that is resized from."""
    return simplejpeg.decode_jpeg(jpeg, "RGB", min_height=SIDE, min_width=SIDE)


DECODERS: Final[dict[str, Callable[[bytes], Pixels]]] = {
    "Pillow": pillow,
    "Pillow draft": pillow_draft,
    "simplejpeg": whole_simplejpeg,
    _PINNED: to_array,
}


def compare() -> list[Verdict]:
    """Measure in turn, each on the same frames, and print medians over rounds with their spread."""
    frames = make_frames(24)
    timed = DECODERS | {_ALONE: decode_alone}
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for decode in timed.values():
        decode(frames[0])
    for _ in range(_ROUNDS):
        for name, decode in timed.items():
            began = time.perf_counter()
            for jpeg in frames:
                decode(jpeg)
            spent[name].append((time.perf_counter() - began) / len(frames) * 1e3)
    print(f"JPEG 640x480 to {SIDE}x{SIDE}, {len(frames)} frames, {_ROUNDS} rounds in turn")
    print(f"{'decoder':<32}{'ms/image':>10}{'least':>8}{'most':>8}{'mean difference of a pixel':>30}")
    for name, decode in DECODERS.items():
        difference = statistics.mean(
            float(np.abs(decode(jpeg).astype(int) - pillow(jpeg)).mean()) for jpeg in frames[:8]
        )
        times = spent[name]
        print(f"{name:<32}{statistics.median(times):>10.2f}{min(times):>8.2f}{max(times):>8.2f}{difference:>30.2f}")
    medians = {name: statistics.median(times) for name, times in spent.items()}
    alone = medians.pop(_ALONE)
    print(f"{_ALONE:<32}{alone:>10.2f}{min(spent[_ALONE]):>8.2f}{max(spent[_ALONE]):>8.2f}")
    fastest = min(medians, key=lambda name: medians[name])
    share = medians[_PINNED] / medians[fastest]
    return [
        Verdict(
            f"decoding a JPEG of 640x480 under {_TARGET_MS:g} ms by the decoder in use",
            f"{spread(spent[_ALONE])} ms, {spread(spent[_PINNED])} ms with the resizing",
            alone < _TARGET_MS,
        ),
        Verdict(
            f"no decoder measured takes less than {_AS_FAST:g} times the time of the one in use",
            f"{1 / share:.2f} times, {fastest}",
            share * _AS_FAST <= 1,
        ),
    ]


if __name__ == "__main__":
    print_verdicts(compare())
