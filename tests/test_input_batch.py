"""The input kernel: digits and pairs to standardised, augmented images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mnist100 import functional as F  # noqa: N812
from mnist100 import set_num_threads
from support import EPS, Array, assert_same, draws, oracle

DIGITS = 12
PAIRS = 40

AFFINE: dict[str, Any] = {"rotate": 0.3, "scale": 0.2, "shear": 0.3, "translate": 3.0}
ELASTIC: dict[str, Any] = {"elastic": 4.0}
JITTER: dict[str, Any] = {"shift": 4, "contrast": 0.1, "brightness": 0.1, "clip": 3.0}
CHOICES: list[dict[str, Any]] = [
    {},
    {"clip": 1.5},
    {"shift": 2},
    {"shift": 56},
    {"contrast": 0.3},
    {"brightness": 0.3},
    {"rotate": 3.2},
    {"scale": 0.9},
    {"shear": 1.0},
    {"translate": 40.0},
    AFFINE,
    JITTER,
    AFFINE | JITTER,
    ELASTIC,
    AFFINE | ELASTIC | JITTER,
]


def table(std_floor: float = 0.1) -> tuple[Array, Array, Array, Array]:
    """digits, pairs, mean, std; digits in the manner of MNIST, strokes on black."""
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 256, (DIGITS, 28, 28)) * (rng.random((DIGITS, 28, 28)) < 0.4)
    pairs = rng.integers(0, DIGITS, (PAIRS, 2))
    mean, std = rng.random((28, 56)), np.maximum(rng.random((28, 56)), std_floor)
    return (
        digits.astype(np.uint8),
        pairs.astype(np.int32),
        mean.astype(np.float32),
        std.astype(np.float32),
    )


def batch(samples: Array, **options: Any) -> Array:
    digits, pairs, mean, std = table()
    return F.input_batch(digits, pairs, samples, mean, std, **({"seed": 3, "step": 4} | options))


@pytest.mark.parametrize("options", CHOICES, ids=str)
def test_agrees_with_the_oracle(variant: str, options: dict[str, Any]) -> None:
    samples = np.arange(PAIRS)[::-3]
    x = batch(samples, **options)
    assert x.shape == (len(samples), 1, 28, 56)
    assert x.dtype == np.float32
    # Source coordinates reach 28·(1+shear)/(1-scale) and are made of some eight roundings; a pixel
    # changes by at most 1 from one to the next in both directions, and 1/std is at most 10. Without a
    # warp only some roundings of values below 10 are left.
    affine = set(options) & set(AFFINE | ELASTIC)
    reach = 28 * (1 + options.get("shear", 0)) / (1 - options.get("scale", 0))
    atol = (
        8
        * EPS
        * (
            10
            + (
                2 * 10 * (reach + options.get("translate", 0) + options.get("elastic", 0))
                if affine
                else 0
            )
        )
    )
    np.testing.assert_allclose(x, oracle(batch, samples, **options), rtol=0, atol=atol)


def test_without_augmentation_it_standardises(variant: str) -> None:
    digits, pairs, mean, std = table()
    samples = np.array([5, 0, 39, 5])
    pixels = np.concatenate([digits[pairs[samples, 0]], digits[pairs[samples, 1]]], axis=2) / 255
    expected = ((pixels - mean) / std)[:, np.newaxis]
    np.testing.assert_allclose(batch(samples), expected, rtol=0, atol=4 * EPS * 10)
    assert_same(batch(samples, seed=9, step=9), batch(samples))


def test_the_order_of_a_batch_does_not_matter(variant: str) -> None:
    options = AFFINE | ELASTIC | JITTER
    whole_batch = batch(np.arange(PAIRS), **options)
    samples = np.array([7, 7, 31, 0, 12])
    assert_same(batch(samples, **options), whole_batch[samples])
    assert_same(batch(samples[:0], **options), whole_batch[:0])


@pytest.mark.parametrize("warp", [AFFINE, ELASTIC], ids=["affine", "elastic"])
def test_draws_depend_on_seed_step_and_row(variant: str, warp: dict[str, Any]) -> None:
    digits, pairs, mean, std = table()
    pairs[:] = pairs[0]  # the same picture in every row
    samples = np.arange(PAIRS)

    def run(**stream: Any) -> Array:
        return F.input_batch(digits, pairs, samples, mean, std, **stream, **warp)

    x = run(seed=1, step=1)
    assert len(np.unique(x.reshape(PAIRS, -1), axis=0)) == PAIRS
    assert_same(run(seed=1, step=1), x)
    for other in (run(seed=2, step=1), run(seed=1, step=2)):
        assert (other != x).reshape(PAIRS, -1).any(axis=1).all()


@pytest.mark.parametrize("warp", [AFFINE, ELASTIC], ids=["affine", "elastic"])
def test_the_two_digits_are_warped_apart(variant: str, warp: dict[str, Any]) -> None:
    digits, _, mean, std = table()
    x = F.input_batch(
        digits, np.zeros((1, 2), np.int32), np.zeros(1, np.int64), 0 * mean, 0 * std + 1, **warp
    )
    assert (x[..., :28] != x[..., 28:]).any()


def test_a_shift_moves_whole_columns_and_leaves_zeros(variant: str) -> None:
    samples = np.arange(PAIRS)
    plain, moved = batch(samples), batch(samples, shift=3)
    seen = set()
    for before, after in zip(plain[:, 0], moved[:, 0], strict=True):
        fits = []
        for by in range(-3, 4):
            expected = np.zeros_like(before)
            to, source = slice(max(by, 0), 56 + min(by, 0)), slice(max(-by, 0), 56 - max(by, 0))
            expected[:, to] = before[:, source]
            fits += [by] * np.array_equal(after, expected)
        assert len(fits) == 1
        seen.update(fits)
    assert seen == set(range(-3, 4))


def test_clip(variant: str) -> None:
    samples = np.arange(PAIRS)
    plain = batch(samples)
    assert np.abs(plain).max() > 1
    assert_same(batch(samples, clip=1.0), plain.clip(-1, 1))


def test_contrast_and_brightness_are_one_draw_each_a_sample(variant: str) -> None:
    samples = np.arange(PAIRS)
    plain, changed = (
        batch(samples).reshape(PAIRS, -1),
        batch(samples, contrast=0.2, brightness=0.3).reshape(PAIRS, -1),
    )
    gains = []
    for x, y in zip(plain.astype(np.float64), changed, strict=True):
        gain, offset = np.polyfit(x, y, 1)
        np.testing.assert_allclose(gain * x + offset, y, rtol=0, atol=1e-5)
        gains.append(gain)
    # 40 draws from N(1, 0.2): mean and deviation within five of their own deviations.
    assert abs(np.mean(gains) - 1) < 5 * 0.2 / np.sqrt(PAIRS)
    assert abs(np.std(gains) - 0.2) < 5 * 0.2 / np.sqrt(2 * PAIRS)


def test_rotation_by_a_quarter_turn(variant: str) -> None:
    # The smallest and largest angle of many draws lie near the limit; none lies beyond it.
    digits = np.zeros((1, 28, 28), np.uint8)
    digits[0, 13:15, 20:26] = 255  # a bar to the right of the centre
    pairs = np.zeros((200, 2), np.int32)
    ones = np.ones((28, 56), np.float32)
    x = F.input_batch(digits, pairs, np.arange(200), 0 * ones, ones, rotate=0.5)[:, 0, :, :28]
    rows, columns = np.mgrid[:28, :28] - 13.5
    angles = np.arctan2((x * rows).sum(axis=(1, 2)), (x * columns).sum(axis=(1, 2)))
    assert 0.48 < angles.max() < 0.505
    assert -0.505 < angles.min() < -0.48
    assert abs(angles.mean()) < 5 * 0.5 / np.sqrt(3 * 200)


def test_elastic_displacements(variant: str) -> None:
    """Their size, and that neighbours move together: both from the variances of the spline's weights."""
    count, half_width = 400, 3.0
    columns = np.tile(np.arange(28, dtype=np.uint8) * 8, (28, 1))[np.newaxis]
    pairs = np.zeros((count, 2), np.int32)
    ones = np.ones((28, 56), np.float32)
    x = F.input_batch(
        columns, pairs, np.arange(count), 0 * ones, ones / 255, elastic=half_width, seed=1
    )
    # Far from the edge a pixel is 8 times the column that it was looked up in.
    moved = x[:, 0, 7:21, 7:21].astype(np.float64) / 8 - np.arange(7, 21)
    assert np.abs(moved).max() < half_width
    # Per axis, Σb² runs from 0.46 between nodes to 0.5 at one; uniform draws have variance e²/3.
    deviation = half_width / np.sqrt(3) * 0.48
    np.testing.assert_allclose(moved.std(axis=0), deviation, rtol=0.15)
    np.testing.assert_allclose(moved.mean(axis=0), 0, atol=5 * deviation / np.sqrt(count))
    beside, far = (moved[:, :, by:] * moved[:, :, :-by] for by in (1, 12))
    assert beside.mean() > 0.95 * deviation**2
    assert far.mean() < 0.5 * deviation**2


@pytest.mark.parametrize("threads", [1, 2, 3, 7])
def test_threads(variant: str, threads: int) -> None:
    set_num_threads(1)
    options = AFFINE | ELASTIC | JITTER
    expected = batch(np.arange(PAIRS), **options)
    set_num_threads(threads)
    assert_same(batch(np.arange(PAIRS), **options), expected)


@pytest.mark.parametrize(
    "options", [{"translate": 1e300}, {"shear": 1e300}, {"rotate": 1e300}, {"elastic": 1e300}]
)
def test_absurd_options_stay_inside_the_digit(variant: str, options: dict[str, Any]) -> None:
    assert np.isfinite(batch(np.arange(PAIRS), **({"rotate": 1.0} | options))).all()


def test_views_and_inputs_are_left_alone(variant: str) -> None:
    digits, pairs, mean, std = (a.repeat(2, axis=0)[::2] for a in table())
    samples = np.arange(PAIRS)[::2]
    before = [a.copy() for a in (digits, pairs, samples, mean, std)]
    x = F.input_batch(digits, pairs, samples, mean, std, **AFFINE)
    assert_same(x, F.input_batch(*before, **AFFINE))
    assert_same((digits, pairs, samples, mean, std), tuple(before))


@pytest.mark.parametrize(
    ("argument", "value", "error", "message"),
    [
        ("digits", np.zeros((2, 28, 28), np.float32), TypeError, "digits: got float32 array"),
        ("digits", np.zeros((2, 28, 27), np.uint8), ValueError, "digits: got uint8 array"),
        ("digits", [[0]], TypeError, "digits: got list"),
        ("digits", np.zeros((0, 28, 28), np.uint8), ValueError, "pairs: got the index"),
        ("pairs", np.zeros((PAIRS, 3), np.int32), ValueError, r"pairs: .* wants shape \(M, 2\)"),
        ("pairs", np.zeros((PAIRS, 2)), TypeError, "pairs: got float64 array"),
        (
            "pairs",
            np.full((PAIRS, 2), DIGITS),
            ValueError,
            "pairs: got the index 12, wants 0 to 11",
        ),
        ("pairs", np.full((PAIRS, 2), -1), ValueError, "pairs: got the index -1"),
        ("pairs", np.full((PAIRS, 2), 2**40), ValueError, "pairs: got values in"),
        ("samples", np.array([PAIRS]), ValueError, "samples: got the index 40, wants 0 to 39"),
        ("samples", np.array([-1]), ValueError, "samples: got the index -1"),
        ("samples", np.array([[1]]), ValueError, "samples: .* wants 1 dimension"),
        ("mean", np.zeros((28, 56)), TypeError, "mean: got float64 array"),
        ("mean", draws(56, 28), ValueError, r"mean: .* wants shape \(28, 56\)"),
        (
            "std",
            np.zeros((28, 56), np.float32),
            ValueError,
            "std: got values from 0 to 0, wants finite values from 1e-30",
        ),
        ("std", np.full((28, 56), np.nan, np.float32), ValueError, "std: got values from nan"),
        ("clip", -1.0, ValueError, "clip: got -1"),
        ("rotate", float("nan"), ValueError, "rotate: got nan"),
        ("scale", 1.0, ValueError, "scale: got 1"),
        ("shear", "1", TypeError, "shear: got str"),
        ("translate", float("inf"), ValueError, "translate: got inf"),
        ("elastic", -1.0, ValueError, "elastic: got -1"),
        ("shift", 57, ValueError, "shift: got 57, wants 0 to 56"),
        ("shift", 1.0, TypeError, "shift: got float"),
        ("contrast", -0.1, ValueError, "contrast: got -0.1"),
        ("brightness", None, TypeError, "brightness: got NoneType"),
        ("seed", -1, ValueError, "seed: got -1"),
        ("step", 2**64, ValueError, "step: got 18446744073709551616"),
    ],
)
def test_errors(argument: str, value: object, error: type[Exception], message: str) -> None:
    digits, pairs, mean, std = table()
    arguments: dict[str, Any] = {
        "digits": digits,
        "pairs": pairs,
        "samples": np.arange(3),
        "mean": mean,
        "std": std,
    }
    with pytest.raises(error, match=f"^{message}"):
        F.input_batch(**(arguments | {argument: value}))
