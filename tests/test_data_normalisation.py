"""Standardisation is that of the gathered pairs, whatever way it is computed."""

from __future__ import annotations

import numpy as np
import pytest

from mnist100.data import DigitSet, Normalisation, PairSet

RANDOM = np.random.default_rng(5)
MEAN = np.zeros((28, 56), dtype=np.float32)
STD = np.ones((28, 56), dtype=np.float32)


def some_pairs(digits: int, pairs: int) -> PairSet:
    images = RANDOM.integers(0, 256, (digits, 28, 28), dtype=np.uint8)
    images[:, :3] = 0
    images[:, 3] = 255
    table = DigitSet(images, RANDOM.integers(0, 10, digits, dtype=np.uint8))
    return PairSet(table, RANDOM.integers(0, digits, (pairs, 2), dtype=np.int32))


# 5,000 digits are more than are measured at once.
@pytest.mark.parametrize(("digits", "pairs"), [(1, 1), (30, 200), (5000, 300)])
def test_fit_equals_the_moments_of_the_gathered_pairs(digits: int, pairs: int) -> None:
    data = some_pairs(digits, pairs)
    images = data.images(np.arange(pairs)) / 255.0
    found = Normalisation.fit(data, std_floor=0.1, clip=3.0)
    assert found.mean.dtype == found.std.dtype == np.float32
    assert found.clip == 3.0
    np.testing.assert_allclose(found.mean, images.mean(axis=0), rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found.std, np.maximum(images.std(axis=0), 0.1), rtol=1e-6)


def test_the_two_sides_are_measured_apart() -> None:
    digits = DigitSet(
        np.stack([np.full((28, 28), value, dtype=np.uint8) for value in (0, 51, 255)]),
        np.zeros(3, dtype=np.uint8),
    )
    pairs = PairSet(digits, np.array([[0, 1], [0, 2], [2, 2]], dtype=np.int32))
    found = Normalisation.fit(pairs, std_floor=1e-3, clip=0.0)
    for side, values in ((slice(0, 28), [0, 0, 1]), (slice(28, 56), [0.2, 1, 1])):
        np.testing.assert_allclose(found.mean[:, side], np.mean(values), rtol=1e-6)
        np.testing.assert_allclose(found.std[:, side], np.std(values), rtol=1e-6)


def test_a_pixel_that_never_varies_has_exactly_the_floor() -> None:
    found = Normalisation.fit(some_pairs(40, 997), std_floor=1e-8, clip=0.0)
    assert (found.std[:4] == np.float32(1e-8)).all()
    assert (found.mean[:3] == 0).all()
    assert (found.mean[3] == 1).all()


def test_the_order_of_the_pairs_does_not_change_a_bit() -> None:
    data = some_pairs(50, 500)
    shuffled = PairSet(data.digits, data.pairs[RANDOM.permutation(500)])
    one, other = (Normalisation.fit(d, std_floor=0.1, clip=3.0) for d in (data, shuffled))
    assert one.mean.tobytes() == other.mean.tobytes()
    assert one.std.tobytes() == other.std.tobytes()


@pytest.mark.parametrize("std_floor", [0.0, -1.0, float("nan"), float("inf")])
def test_fit_refuses_a_floor_that_is_none(std_floor: float) -> None:
    with pytest.raises(ValueError, match="std_floor: got"):
        Normalisation.fit(some_pairs(2, 2), std_floor=std_floor, clip=0.0)


def test_fit_needs_a_pair() -> None:
    with pytest.raises(ValueError, match="pairs: got none"):
        Normalisation.fit(some_pairs(2, 0), std_floor=0.1, clip=0.0)


@pytest.mark.parametrize("clip", [-1.0, float("nan"), float("inf")])
def test_clip_is_zero_or_a_positive_number(clip: float) -> None:
    with pytest.raises(ValueError, match="clip: got"):
        Normalisation(MEAN, STD, clip)


@pytest.mark.parametrize(
    ("mean", "std", "error", "message"),
    [
        (MEAN.astype(np.float64), STD, TypeError, "mean: got float64"),
        (MEAN, STD.reshape(-1, 1), ValueError, r"std: got shape \(1568, 1\)"),
        (MEAN * np.nan, STD, ValueError, "mean: got a value that is not finite"),
        (MEAN, STD * 0, ValueError, "std: got a value not finite or not above 0"),
        (MEAN, STD * np.float32(np.inf), ValueError, "std: got a value not finite"),
    ],
)
def test_bad_statistics_are_refused(
    mean: np.ndarray, std: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Normalisation(mean, std, 0.0)
