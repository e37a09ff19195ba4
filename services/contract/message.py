"""The Kafka message of one frame: key = device id, value = JPEG bytes, headers = `FrameHeaders`."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, fields


class MalformedMessageError(ValueError):
    """A message whose headers are not those of a frame; the text names the header."""


def make_image_id(run_id: str, device_id: str, seq: int) -> str:
    """The 24 hex digits of a frame's BSON ObjectId: the same run, device and number always give the same id."""
    return hashlib.sha256(f"{run_id}\0{device_id}\0{seq}".encode()).hexdigest()[:24]


@dataclass(frozen=True, slots=True)
class FrameHeaders:
    """What a frame says about itself. `intended_ns` and `sent_ns` are stamps; `truth` is what the camera drew."""

    image_id: str
    run_id: str
    device_id: str
    seq: int
    intended_ns: int
    sent_ns: int
    truth: str

    def encode(self) -> list[tuple[str, bytes]]:
        """The headers as Kafka takes them: names with UTF-8 values, numbers in decimal."""
        return [(f.name, str(getattr(self, f.name)).encode()) for f in fields(self)]

    @classmethod
    def decode(cls, headers: Iterable[tuple[str, bytes]]) -> "FrameHeaders":
        """Read the headers of a message; raise `MalformedMessageError` that names the first bad one."""
        raw = dict(headers)
        values: dict[str, str | int] = {}
        for field in fields(cls):
            if field.name not in raw:
                raise MalformedMessageError(f"header {field.name} is missing")
            try:
                text = raw[field.name].decode()
                values[field.name] = int(text) if field.type is int else text
            except (UnicodeDecodeError, ValueError):
                raise MalformedMessageError(f"header {field.name} is not {field.type}") from None
        image_id = values["image_id"]
        if len(str(image_id)) != 24 or any(c not in "0123456789abcdef" for c in str(image_id)):
            raise MalformedMessageError("header image_id is not 24 hex digits")
        return cls(**values)  # type: ignore[arg-type]
