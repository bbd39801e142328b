"""What layers pass on: NCHW arrays, or the zero-padded NHWC that conv blocks read and write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import _core
from ._checks import Array


@dataclass(frozen=True, slots=True)
class Padded:
    """A batch as the conv blocks want it: (n, h + 2·bh, w + 2·bw, c) with a border of zeros."""

    data: Array
    border: tuple[int, int]

    @property
    def shape(self) -> tuple[int, ...]:
        """(n, c, h, w), as of the array that it stands for."""
        n, h, w, c = self.data.shape
        return n, c, h - 2 * self.border[0], w - 2 * self.border[1]


Activation: TypeAlias = Array | Padded


def to_nchw(x: Activation) -> Array:
    """The batch as an NCHW array."""
    return _core.unpad_nhwc(x.data, x.border) if isinstance(x, Padded) else x


def to_padded(x: Activation, border: tuple[int, int]) -> Padded:
    """The batch as zero-padded NHWC with the border asked for."""
    if isinstance(x, Padded):
        if x.border == border:
            return x
        x = to_nchw(x)
    return Padded(_core.pad_nhwc(x, border), border)


def batch(
    name: str, x: object, shape: Sequence[int | None], dtype: npt.DTypeLike | None = None
) -> Activation:
    """`x` if it is a batch (n, c, h, w) of that shape, where None admits any size."""
    if isinstance(x, Padded):
        if dtype is not None and x.data.dtype != dtype:
            raise check.fail_type(name, check.describe(x.data), f"{np.dtype(dtype)}")
        found: Activation = x
    else:
        found = check.images(name, x, dtype)
    if any(
        want is not None and want != size for want, size in zip(shape, found.shape, strict=True)
    ):
        wants = ", ".join(
            letter if size is None else str(size)
            for letter, size in zip("nchw", shape, strict=True)
        )
        raise check.fail(name, f"shape {found.shape}", f"({wants}), as the layer is made for")
    return found
