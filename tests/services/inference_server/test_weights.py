import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.contract.settings import InferenceServerSettings
from services.inference_server.weights import random_weights, resolve, resolve_kind

SHAPES = [
    ("conv1_conv/kernel", (7, 7, 3, 64)),
    ("conv1_conv/bias", (64,)),
    ("conv1_bn/gamma", (64,)),
    ("conv2_block1_3_bn/gamma", (256,)),
    ("conv1_bn/moving_variance", (64,)),
    ("conv2_block1_2_conv/kernel", (3, 3, 64, 64)),
    ("predictions/kernel", (2048, 1000)),
]


@given(seed=st.integers(0, 2**32))
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(seed):
    first, again, other = (random_weights(SHAPES[:3], s) for s in (seed, seed, seed + 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_kernels_sum_to_zero_and_have_the_variance_of_he():
    arrays = dict(zip([path for path, _ in SHAPES], random_weights(SHAPES, 1), strict=True))
    for path, shape in SHAPES:
        assert arrays[path].shape == shape
        assert arrays[path].dtype == np.float32
    kernel = arrays["conv2_block1_2_conv/kernel"].reshape(-1, 64)
    half = len(kernel) // 2
    assert np.array_equal(kernel[:half], -kernel[half:])
    assert kernel.std() == pytest.approx(math.sqrt(2 / len(kernel)), rel=0.02)


def test_nothing_is_trivial_enough_to_be_optimised_away():
    for array in random_weights(SHAPES[1:5], 1):
        assert len(np.unique(array)) > 1
        assert not (array == 0).any()
        assert not (array == 1).any()


def test_kinds(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.touch()
    assert resolve_kind("random") == "random"
    assert resolve_kind("imagenet") == "imagenet"
    assert resolve_kind(str(path)) == "file"
    with pytest.raises(ValueError, match=r"WEIGHTS=nowhere\.h5: no such file"):
        resolve_kind("nowhere.h5")


def test_resolving_keeps_a_files_path(tmp_path):
    path = tmp_path / "a.weights.h5"
    path.touch()
    assert resolve(InferenceServerSettings(weights=str(path))).weights == str(path)
    assert resolve(InferenceServerSettings(weights="random")).weights == "random"
