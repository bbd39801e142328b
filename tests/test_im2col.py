"""im2col, col2im and the padded layout: pure copies, so everything is exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import CONV, LAYOUT, Conv, Layout
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from support import assert_same, draws, oracle, tensor, whole

BORDERS = [(0, 0), (1, 1), (0, 2), (3, 1)]


def columns_shape(s: Conv) -> tuple[int, int]:
    oh = (s.h + 2 * s.padding[0] - s.kernel[0]) // s.stride[0] + 1
    ow = (s.w + 2 * s.padding[1] - s.kernel[1]) // s.stride[1] + 1
    return s.n * oh * ow, s.c * s.kernel[0] * s.kernel[1]


@pytest.mark.parametrize("shape", CONV, ids=str)
def test_im2col(variant: str, shape: Conv) -> None:
    x = draws(shape.n, shape.c, shape.h, shape.w)
    window = shape.kernel, shape.stride, shape.padding
    cols = F.im2col(x, *window)
    assert cols.shape == columns_shape(shape)
    assert_same(cols, oracle(F.im2col, x, *window))
    if shape.n:  # PyTorch's unfold refuses an empty batch
        unfolded = torch.nn.functional.unfold(
            tensor(x), shape.kernel, padding=shape.padding, stride=shape.stride
        )
        assert_same(cols, unfolded.transpose(1, 2).reshape(cols.shape).numpy())


@pytest.mark.parametrize("shape", CONV, ids=str)
def test_col2im(variant: str, shape: Conv) -> None:
    cols = whole(*columns_shape(shape))
    x_shape = shape.n, shape.c, shape.h, shape.w
    window = shape.kernel, shape.stride, shape.padding
    x = F.col2im(cols, x_shape, *window)
    assert x.shape == x_shape
    assert_same(x, oracle(F.col2im, cols, x_shape, *window))
    if shape.n:
        rows = tensor(cols).reshape(shape.n, -1, cols.shape[1])
        folded = torch.nn.functional.fold(
            rows.transpose(1, 2),
            (shape.h, shape.w),
            shape.kernel,
            padding=shape.padding,
            stride=shape.stride,
        )
        assert_same(x, folded.numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_col2im_is_the_transpose_of_im2col(variant: str, dtype: type) -> None:
    x = whole(2, 3, 7, 9, dtype=dtype)
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] = (3, 2), (2, 1), (1, 1)
    cols = F.im2col(x, *window)
    other = whole(*cols.shape, seed=1, dtype=dtype)
    back = F.col2im(other, (2, 3, 7, 9), *window)
    assert cols.dtype == back.dtype == dtype
    assert np.vdot(cols, other) == np.vdot(x, back)


def test_ints_stand_for_pairs(variant: str) -> None:
    x = draws(1, 2, 6, 6)
    assert_same(F.im2col(x, 3, 2, 1), F.im2col(x, (3, 3), (2, 2), (1, 1)))
    assert_same(F.im2col(x, 3), F.im2col(x, (3, 3), (1, 1), (0, 0)))
    assert_same(F.im2col(x, [3, 3]), F.im2col(x, 3))  # type: ignore[arg-type]


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", LAYOUT, ids=str)
def test_padded_layout(variant: str, shape: Layout, border: tuple[int, int], dtype: type) -> None:
    x = draws(*shape, dtype=dtype)
    bh, bw = border
    padded = _core.pad_nhwc(x, border)
    assert_same(padded, np.pad(x.transpose(0, 2, 3, 1), [(0, 0), (bh, bh), (bw, bw), (0, 0)]))
    padded[:, :bh] = padded[:, :, :bw] = np.nan  # what lies in the border does not matter
    assert_same(_core.unpad_nhwc(padded, border), x)


def test_the_oracle_pads(variant: str) -> None:
    x = draws(2, 3, 5, 4)
    padded = oracle(_core.pad_nhwc, x, (1, 2))
    assert_same(_core.pad_nhwc(x, (1, 2)), padded)
    assert_same(_core.unpad_nhwc(padded, (1, 2)), oracle(_core.unpad_nhwc, padded, (1, 2)))
