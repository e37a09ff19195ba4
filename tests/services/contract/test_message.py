import pytest
from bson import ObjectId
from hypothesis import given
from hypothesis import strategies as st

from services.contract.message import FrameHeaders, MalformedMessageError, make_image_id

names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
stamps = st.integers(0, 2**63 - 1)
frame_headers = st.builds(
    FrameHeaders,
    image_id=st.binary(min_size=12, max_size=12).map(bytes.hex),
    run_id=names,
    device_id=names,
    seq=st.integers(0, 2**40),
    intended_ns=stamps,
    sent_ns=stamps,
    truth=names,
)
GOOD = FrameHeaders(make_image_id("run", "cam-0001", 7), "run", "cam-0001", 7, 10, 20, "star")


@given(frame_headers)
def test_headers_survive_the_journey(headers):
    assert FrameHeaders.decode(headers.encode()) == headers


@given(frame_headers, st.randoms())
def test_order_and_foreign_headers_do_not_matter(headers, random):
    encoded = [*headers.encode(), ("traceparent", b"\xff\xfe")]
    random.shuffle(encoded)
    assert FrameHeaders.decode(encoded) == headers


def test_headers_are_names_with_bytes():
    encoded = dict(GOOD.encode())
    assert encoded["seq"] == b"7"
    assert encoded["truth"] == b"star"
    assert list(encoded) == ["image_id", "run_id", "device_id", "seq", "intended_ns", "sent_ns", "truth"]


@pytest.mark.parametrize("name", list(dict(GOOD.encode())))
def test_a_missing_header_is_named(name):
    encoded = [(key, value) for key, value in GOOD.encode() if key != name]
    with pytest.raises(MalformedMessageError, match=f"header {name} is missing"):
        FrameHeaders.decode(encoded)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("seq", b"seven"),
        ("seq", b""),
        ("sent_ns", b"1.5"),
        ("intended_ns", b"\xff"),
        ("truth", b"\xff"),
        ("image_id", b"123"),
        ("image_id", b"Z" * 24),
        ("image_id", b"A" * 24),
    ],
)
def test_a_bad_header_is_named(name, value):
    with pytest.raises(MalformedMessageError, match=f"header {name} is not"):
        FrameHeaders.decode({**dict(GOOD.encode()), name: value}.items())


@given(st.dictionaries(st.sampled_from(list(dict(GOOD.encode()))), st.binary(max_size=30)))
def test_bytes_from_anywhere_give_headers_or_a_malformed_message(raw):
    try:
        decoded = FrameHeaders.decode({**dict(GOOD.encode()), **raw}.items())
    except MalformedMessageError:
        return
    assert FrameHeaders.decode(decoded.encode()) == decoded


@given(names, names, st.integers(0, 2**40))
def test_an_image_id_is_an_object_id_and_repeats(run_id, device_id, seq):
    image_id = make_image_id(run_id, device_id, seq)
    assert str(ObjectId(image_id)) == image_id == make_image_id(run_id, device_id, seq)


@given(st.lists(st.tuples(names, names, st.integers(0, 2**40)), unique=True, min_size=2, max_size=20))
def test_different_frames_have_different_ids(frames):
    assert len({make_image_id(*frame) for frame in frames}) == len(frames)


def test_ids_keep_their_parts_apart():
    assert make_image_id("run1", "cam", 1) != make_image_id("run", "1cam", 1)
    assert make_image_id("run", "cam1", 1) != make_image_id("run", "cam", 11)
