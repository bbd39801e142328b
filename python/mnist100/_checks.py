"""What `functional` accepts: dtypes, shapes and layouts, each refused with one clear sentence."""

from __future__ import annotations

import math
import operator
import reprlib
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
IntOrPair: TypeAlias = int | tuple[int, int]

MAX_SIZE = 2**31 - 1  # of an image axis, a window, a stride, a padding
SMALLEST_STD = 1e-30  # of a pixel: 1 / std must be finite in float32
MAX_PRODUCTS = 2**48  # of a window operation, so that no size overflows further down
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def fail(name: str, got: object, wants: str) -> ValueError:
    """The error for an argument of the right type and the wrong value."""
    return ValueError(f"{name}: got {got}, wants {wants}")


def fail_type(name: str, got: object, wants: str) -> TypeError:
    """The error for an argument of the wrong type or dtype."""
    return TypeError(f"{name}: got {got}, wants {wants}")


def describe(value: object) -> str:
    """What an argument is, in the words of an error message."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    text = " ".join(reprlib.repr(value).split())
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def array(
    name: str, value: object, dtype: npt.DTypeLike | None = None, ndim: int | None = None
) -> Array:
    """`value` as a C-contiguous float array; copied once if it is not contiguous, never cast.

    `dtype` is what the first array of the call has; None admits float32 and float64.
    """
    if not isinstance(value, np.ndarray):
        raise fail_type(name, describe(value), "a NumPy array of float32 (or float64)")
    if value.dtype not in FLOATS or not value.dtype.isnative:
        raise fail_type(name, describe(value), "float32 (or float64)")
    if dtype is not None and value.dtype != dtype:
        raise fail_type(name, describe(value), f"{np.dtype(dtype)}, like the other arguments")
    if ndim is not None and value.ndim != ndim:
        raise fail(name, describe(value), f"{ndim} dimensions")
    return compact(value)


def compact(value: Array) -> Array:
    """`value` where a kernel can read it, C-contiguous and aligned; copied once if it is not."""
    return value if value.flags.c_contiguous and value.flags.aligned else value.copy(order="C")


def shaped(name: str, value: object, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """Like `array`, with the one shape that fits the other arguments."""
    found = array(name, value, dtype)
    if found.shape != tuple(shape):
        raise fail(name, describe(value), f"shape {tuple(shape)} to match the other arguments")
    return found


def integers(name: str, value: object, dtype: npt.DTypeLike, ndim: int) -> Array:
    """`value` as a C-contiguous array of integers of one kind; any integer dtype that fits is taken."""
    found = np.asarray(value)
    if found.dtype.kind not in "iu":
        raise fail_type(name, describe(value), "integers")
    if found.ndim != ndim:
        raise fail(name, describe(value), f"{ndim} dimension{'s' if ndim > 1 else ''}")
    info = np.iinfo(np.dtype(dtype))
    fits = np.can_cast(found.dtype, info.dtype) or found.size == 0
    if not fits and (found.min() < info.min or found.max() > info.max):
        raise fail(name, f"values in {found.min()}..{found.max()}", f"values that fit {info.dtype}")
    return compact(found.astype(dtype, copy=False))


def in_place(name: str, value: object, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
    """An array that a kernel may write to: it can be neither copied nor cast."""
    if not isinstance(value, np.ndarray):
        raise fail_type(name, describe(value), f"a NumPy array of {np.dtype(dtype)}")
    if value.dtype != dtype:
        raise fail_type(name, describe(value), f"{np.dtype(dtype)}, like the other arguments")
    if value.shape != tuple(shape):
        raise fail(name, describe(value), f"shape {tuple(shape)}")
    if not value.flags.carray:
        got = "an array that is read-only, not C-contiguous or not aligned"
        raise fail(name, got, "one that can be written to in place")
    return value


def apart(name: str, value: Array, **others: Array) -> None:
    """Refuses an output that shares memory with another argument."""
    for other, array_ in others.items():
        if np.may_share_memory(value, array_):
            raise fail(name, f"memory that overlaps {other}", "memory of its own")


def floating(name: str, value: npt.DTypeLike) -> np.dtype[Any]:
    """The dtype of a layer's weights."""
    try:
        found = np.dtype(value)
    except TypeError as error:
        raise fail_type(name, describe(value), "float32 or float64") from error
    if found not in FLOATS or not found.isnative:
        raise fail_type(name, found, "float32 or float64")
    return found


def integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """A Python or NumPy integer in [low, high]."""
    if isinstance(value, bool):
        raise fail_type(name, describe(value), "an integer")
    try:
        number = operator.index(value)  # type: ignore[arg-type]  # what has none raises a TypeError
    except TypeError as error:
        raise fail_type(name, describe(value), "an integer") from error
    if number < low or (high is not None and number > high):
        wants = f"at least {low}" if high is None else f"{low} to {high}"
        raise fail(name, number, wants)
    return number


def real(name: str, value: object, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number in [low, high]."""
    if isinstance(value, bool | str) or not isinstance(
        value, int | float | np.integer | np.floating
    ):
        raise fail_type(name, describe(value), "a number")
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float
        number = math.inf
    if not math.isfinite(number) or not low <= number <= high:
        bounds = {
            (False, False): "a finite number",
            (True, False): f"a finite number, at least {low:g}",
            (False, True): f"a finite number, at most {high:g}",
            (True, True): f"a number from {low:g} to {high:g}",
        }
        raise fail(name, number, bounds[math.isfinite(low), math.isfinite(high)])
    return number


def word(name: str, value: object) -> int:
    """A 64-bit word: half of a Philox key or counter."""
    return integer(name, value, 0, 2**64 - 1)


def probability(name: str, value: object) -> float:
    """A number in [0, 1)."""
    number = real(name, value, 0.0, 1.0)
    if number == 1.0:
        raise fail(name, number, "a number from 0 up to, not including, 1")
    return number


def pair(name: str, value: object, low: int) -> tuple[int, int]:
    """An int for both axes, or (rows, columns)."""
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise fail(name, value, "an int or a pair of ints")
        return integer(name, value[0], low, MAX_SIZE), integer(name, value[1], low, MAX_SIZE)
    both = integer(name, value, low, MAX_SIZE)
    return both, both


def image_shape(name: str, value: object) -> tuple[int, int, int, int]:
    """(n, c, h, w): n may be 0, the others not."""
    if not isinstance(value, tuple | list) or len(value) != 4:
        raise fail(name, describe(value), "(n, c, h, w)")
    lows = (0, 1, 1, 1)
    n, c, h, w = (integer(name, v, low, MAX_SIZE) for v, low in zip(value, lows, strict=True))
    return n, c, h, w


def shape4(x: Array) -> tuple[int, int, int, int]:
    """The shape of a four-dimensional array, for the type checker."""
    n, c, h, w = x.shape
    return n, c, h, w


def images(name: str, value: object, dtype: npt.DTypeLike | None = None) -> Array:
    """A batch (n, c, h, w)."""
    found = array(name, value, dtype, 4)
    if 0 in found.shape[1:]:
        raise fail(name, describe(found), "at least one channel, row and column")
    if max(found.shape) > MAX_SIZE:
        raise fail(name, describe(found), f"axes of at most {MAX_SIZE}")
    return found


def pooled(name: str, shape: Sequence[int]) -> None:
    """Refuses images (n, c, h, w) in which no 2x2 window fits."""
    if min(shape[2:]) < 2:
        raise fail(name, f"shape {tuple(shape)}", "at least 2x2 pixels, one pooling window")


def even_width(name: str, value: object) -> Array:
    """A batch (n, c, h, 2·w), to be split into halves."""
    found = images(name, value)
    if found.shape[3] % 2:
        raise fail(name, describe(found), "an even width, that of two halves")
    return found


def even_samples(name: str, shape: Sequence[int]) -> None:
    """Refuses an odd number of halves."""
    if shape[0] % 2:
        raise fail(name, f"shape {tuple(shape)}", "an even number of samples")


def cache(name: str, value: object, kind: type, maker: str) -> None:
    """Refuses what is not the cache that a forward pass returned."""
    if not isinstance(value, kind):
        raise fail_type(name, describe(value), f"the {kind.__name__} that {maker} returned")


def places(name: str, value: Array) -> None:
    """Refuses what is no place in a 2x2 window."""
    if value.size and value.max() > 3:
        raise fail(name, f"a value of {value.max()}", "0 to 3, places in a window")


def window(
    x_shape: tuple[int, int, int, int],
    kernel_size: object,
    stride: object,
    padding: object,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding as pairs, and the (oh, ow) they give for x_shape."""
    kernel, steps, pads = (
        pair("kernel_size", kernel_size, 1),
        pair("stride", stride, 1),
        pair("padding", padding, 0),
    )
    spans = [size + 2 * p - k for size, p, k in zip(x_shape[2:], pads, kernel, strict=True)]
    if min(spans) < 0:
        raise fail(
            "kernel_size",
            kernel,
            f"a window inside the padded image, {x_shape[2:]} plus {pads} a side",
        )
    oh, ow = (span // s + 1 for span, s in zip(spans, steps, strict=True))
    if math.prod((*x_shape[:2], oh, ow, *kernel)) > MAX_PRODUCTS:
        got = f"{oh}x{ow} windows of {kernel[0]}x{kernel[1]} on each of {x_shape[:2]} planes"
        raise fail("padding", got, "at most 2^48 elements in all windows")
    return kernel, steps, pads, (oh, ow)
