"""Random orders and input batches, drawn from Philox-4x32-10 (``csrc/philox.h``)."""

from __future__ import annotations

import math

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array


def permutation(n: int, *, seed: int, step: int = 0) -> Array:
    """A random order of 0 … n-1 (int64) that depends on (seed, step) alone, on every platform.

    The stable sort of n Philox keys of 64 bits.
    """
    keys = _core.random_keys(
        check.integer("n", n, 0), check.word("seed", seed), check.word("step", step)
    )
    return np.argsort(keys, kind="stable")


def uniform(shape: tuple[int, ...], *, seed: int, step: int = 0) -> Array:
    """Draws from [0, 1), float64, that depend on (seed, step, position) alone."""
    shape, keys = _keys(shape, seed, step)
    draws: Array = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53  # all that float64 holds
    return draws.reshape(shape)


def normal(shape: tuple[int, ...], *, seed: int, step: int = 0) -> Array:
    """Draws from N(0, 1), float64, that depend on (seed, step, position) alone (Box & Muller 1958)."""
    shape, keys = _keys(shape, seed, step)
    # The two 32-bit halves as uniform draws from the open interval (0, 1).
    radius = ((keys >> np.uint64(32)).astype(np.float64) + 0.5) * 2.0**-32
    angle = ((keys & np.uint64(0xFFFFFFFF)).astype(np.float64) + 0.5) * 2.0**-32
    draws: Array = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * angle)
    return draws.reshape(shape)


def _keys(shape: tuple[int, ...], seed: int, step: int) -> tuple[tuple[int, ...], Array]:
    """The checked shape, and 64 random bits for each element, in a row."""
    if not isinstance(shape, tuple | list):
        raise check.fail_type("shape", check.describe(shape), "a tuple of ints")
    shape = tuple(check.integer("shape", size, 0, check.MAX_SIZE) for size in shape)
    if math.prod(shape) > check.MAX_PRODUCTS:
        raise check.fail("shape", shape, "at most 2^48 elements")
    size = math.prod(shape)
    return shape, _core.random_keys(size, check.word("seed", seed), check.word("step", step))


def input_batch(
    digits: Array,
    pairs: Array,
    samples: Array,
    mean: Array,
    std: Array,
    *,
    clip: float = 0.0,
    rotate: float = 0.0,
    scale: float = 0.0,
    shear: float = 0.0,
    translate: float = 0.0,
    elastic: float = 0.0,
    shift: int = 0,
    contrast: float = 0.0,
    brightness: float = 0.0,
    seed: int = 0,
    step: int = 0,
) -> Array:
    """Standardised, optionally augmented samples of a pair table: float32 (n, 1, 28, 56).

    Parameters
    ----------
    digits : uint8 (N, 28, 28)
    pairs : int32 (M, 2), rows of `digits`: left, right
    samples : int64 (n,), rows of `pairs`
    mean, std : float32 (28, 56), of pixels scaled to [0, 1]; std is at least 1e-30
    clip : results are limited to ±clip; 0 for no limit
    rotate, scale, shear, translate : half-widths of the uniform draws of an affine map, one map a digit,
        about its centre: radians, fraction of each axis, fraction, pixels; bilinear, zeros outside
    elastic : half-width, in pixels, of the uniform displacements at 7x7 nodes 7 pixels apart whose cubic
        B-spline then bends each digit (about 0.29 · elastic in root mean square, along each axis)
    shift : the standardised pair moves sideways by a whole number of pixels from -shift to shift;
        vacated columns are 0
    contrast, brightness : then x · (1 + N(0, contrast)) + N(0, brightness), one draw of each a sample
    seed, step : the draws of a sample depend on (seed, step, its row of `pairs`) alone
    """
    samples = check.integers("samples", samples, np.int64, 1)
    pairs = check.integers("pairs", pairs, np.int32, 2)
    if pairs.shape[1] != 2:
        raise check.fail("pairs", check.describe(pairs), "shape (M, 2)")
    if not isinstance(digits, np.ndarray) or digits.dtype != np.uint8:
        raise check.fail_type("digits", check.describe(digits), "uint8 of shape (N, 28, 28)")
    if digits.ndim != 3 or digits.shape[1:] != (28, 28):
        raise check.fail("digits", check.describe(digits), "shape (N, 28, 28)")
    mean = check.shaped("mean", mean, (28, 56), np.float32)
    std = check.shaped("std", std, (28, 56), np.float32)
    if not np.isfinite(mean).all():
        raise check.fail("mean", "values that are not finite", "finite values")
    if not check.SMALLEST_STD <= std.min() <= std.max() < np.inf:
        got = f"values from {std.min():g} to {std.max():g}"
        raise check.fail("std", got, f"finite values from {check.SMALLEST_STD:g}")
    return _core.input_batch(
        np.ascontiguousarray(digits),
        pairs,
        samples,
        mean,
        1 / std,
        check.real("clip", clip, 0),
        check.real("rotate", rotate, 0),
        check.real("scale", scale, 0, 0.9),
        check.real("shear", shear, 0),
        check.real("translate", translate, 0),
        check.real("elastic", elastic, 0),
        check.integer("shift", shift, 0, 56),
        check.real("contrast", contrast, 0),
        check.real("brightness", brightness, 0),
        check.word("seed", seed),
        check.word("step", step),
    )
