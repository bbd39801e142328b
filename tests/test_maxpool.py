"""Max-pooling, value and argmax, against the oracle and PyTorch: no arithmetic, so exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cases import POOL, Pool
from mnist100 import functional as F  # noqa: N812
from support import Array, assert_same, draws, gradients, oracle, tensor, whole


def pytorch(shape: Pool, x: torch.Tensor) -> tuple[torch.Tensor, Array]:
    y, argmax = torch.nn.functional.max_pool2d(
        x, shape.kernel, shape.stride, shape.padding, return_indices=True
    )
    return y, argmax.numpy().astype(np.int32)


# Whole numbers have ties in almost every window, and their gradients add up exactly where windows overlap.
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("draw", [whole, draws])
@pytest.mark.parametrize("shape", POOL, ids=str)
def test_pooling(variant: str, shape: Pool, draw: type, dtype: type) -> None:
    x: Array = draw(shape.n, shape.c, shape.h, shape.w, dtype=dtype)
    window = shape.kernel, shape.stride, shape.padding
    y, argmax = F.max_pool2d(x, *window)
    assert argmax.dtype == np.int32
    assert_same((y, argmax), oracle(F.max_pool2d, x, *window))
    x_torch = tensor(x, grad=True)
    expected, places = pytorch(shape, x_torch)
    assert_same((y, argmax), (expected.detach().numpy(), places))

    dy = whole(*y.shape, seed=1, dtype=dtype)
    arguments = dy, argmax, (shape.n, shape.c, shape.h, shape.w), *window
    dx = F.max_pool2d_backward(*arguments)
    assert_same(dx, oracle(F.max_pool2d_backward, *arguments))
    assert_same(dx, gradients(expected, dy, [x_torch])[0])


@pytest.mark.parametrize("shape", [shape for shape in POOL if shape.n], ids=str)
def test_nan_and_infinity_as_in_pytorch(variant: str, shape: Pool) -> None:
    x = whole(shape.n, shape.c, shape.h, shape.w)
    odd = np.random.default_rng(0).random(x.shape)
    x[odd < 0.3] = np.nan
    x[(odd > 0.3) & (odd < 0.5)] = -np.inf
    x[odd > 0.95] = np.inf
    window = shape.kernel, shape.stride, shape.padding
    expected, places = pytorch(shape, tensor(x))
    assert_same(F.max_pool2d(x, *window), (expected.numpy(), places))
    assert_same(oracle(F.max_pool2d, x, *window), (expected.numpy(), places))


def test_nothing_but_minus_infinity(variant: str) -> None:
    x = np.full((1, 1, 4, 4), -np.inf, np.float32)
    y, argmax = F.max_pool2d(x, 2)
    assert_same(y, np.full((1, 1, 2, 2), -np.inf, np.float32))
    assert argmax.ravel().tolist() == [0, 2, 8, 10]


def test_stride_defaults_to_the_kernel(variant: str) -> None:
    x = draws(1, 2, 6, 9)
    assert_same(F.max_pool2d(x, (2, 3)), F.max_pool2d(x, (2, 3), (2, 3)))


def test_any_integers_serve_as_argmax(variant: str) -> None:
    x = draws(2, 2, 4, 4)
    y, argmax = F.max_pool2d(x, 2)
    wide = F.max_pool2d_backward(y, argmax.astype(np.uint64), x.shape, 2)
    assert_same(wide, F.max_pool2d_backward(y, argmax, (2, 2, 4, 4), 2))


def test_views(variant: str) -> None:
    x = whole(2, 6, 5, 4).transpose(0, 1, 3, 2)[:, ::2]
    y, argmax = F.max_pool2d(x, 2)
    assert_same((y, argmax), F.max_pool2d(x.copy(), 2))
    back = F.max_pool2d_backward(y[::-1], argmax[::-1], (2, 3, 4, 5), 2)
    assert_same(back, F.max_pool2d_backward(y[::-1].copy(), argmax[::-1].copy(), (2, 3, 4, 5), 2))


@pytest.mark.parametrize("shape", [s for s in POOL if s.n and s.kernel == (2, 2)], ids=str)
def test_any_place_in_the_plane_serves_as_argmax(variant: str, shape: Pool) -> None:
    """Also one outside of its window, which `max_pool2d` never returns."""
    x = draws(shape.n, shape.c, shape.h, shape.w)
    window = shape.kernel, shape.stride, shape.padding
    y, argmax = F.max_pool2d(x, *window)
    rng = np.random.default_rng(0)
    odd = (
        rng.random(argmax.shape) < 1 / argmax[0, 0].size
    )  # about one a plane; some planes have none
    argmax[odd] = rng.integers(0, shape.h * shape.w, odd.sum())
    dy = whole(*y.shape, seed=1)
    arguments = dy, argmax, x.shape, *window
    assert_same(F.max_pool2d_backward(*arguments), oracle(F.max_pool2d_backward, *arguments))


def test_a_negative_zero_is_added_to_zero(variant: str) -> None:
    dy = np.full((1, 40, 2, 2), -0.0, np.float32)
    _, argmax = F.max_pool2d(draws(1, 40, 4, 4), 2)
    assert not np.signbit(F.max_pool2d_backward(dy, argmax, (1, 40, 4, 4), 2)).any()


@pytest.mark.parametrize("bad", [-1, 16, 2**31 - 1, -(2**31)])
@pytest.mark.parametrize("place", [0, 70_000, 159_999])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("window", [(2,), (3, 1)], ids=["tiles", "any"])
def test_one_argmax_outside_the_plane(
    variant: str, window: tuple[int, ...], dtype: type, place: int, bad: int
) -> None:
    """Found by the kernel itself, which must not have written there."""
    # A GPU has no chunks whose edges one must meet, and emulated the planes take seconds.
    divisor = 10 if variant.startswith("cuda") else 1
    planes = 40_000 // divisor
    dy: Array = np.zeros((1, planes, 2, 2), dtype)
    argmax = np.zeros(dy.shape, np.int32)
    argmax.flat[place // divisor] = bad
    with pytest.raises(ValueError, match=f"^argmax: got the index {bad}, wants 0 to 15: places"):
        F.max_pool2d_backward(dy, argmax, (1, planes, 4, 4), *window)
