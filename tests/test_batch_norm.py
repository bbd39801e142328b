"""Batch normalisation with ReLU and pooling, against the oracle, PyTorch and float64 slopes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch

from cases import NORM, Norm
from mnist100 import _core
from mnist100 import functional as F  # noqa: N812
from mnist100.batch_norm import BatchNormReLU
from mnist100.layers import Padded, to_nchw, to_padded
from mnist100.reference import numpy_backend as B  # noqa: N812
from support import EPS, Array, assert_same, draws, gradients, oracle, tensor, whole

BORDERS = [(0, 0), (1, 2)]
POOLS = pytest.mark.parametrize("pool", [False, True])
SHAPES = pytest.mark.parametrize("shape", NORM, ids=str)


def fits(shape: Norm, pool: bool) -> bool:
    return not pool or min(shape.h, shape.w) >= 2


def parameters(c: int, draw: Any, dtype: type = np.float32) -> tuple[Array, Array, Array]:
    """A mean, gamma and beta."""
    mean, gamma, beta = (draw(c, seed=seed, dtype=dtype) for seed in (1, 2, 3))
    return mean, gamma, beta


def kernel(
    shape: Norm, pool: bool, border: tuple[int, int], draw: Any, inv_std: float
) -> tuple[Any, ...]:
    """y, argmax, dx, dgamma, dbeta straight from the kernels, around borders that are not to be read."""
    mean, gamma, beta = parameters(shape.c, draw)
    x = _core.pad_nhwc(draw(*shape), border)
    x[:, : border[0]] = x[:, :, : border[1]] = np.nan
    deviations = np.full(shape.c, inv_std, np.float32)
    y, argmax = _core.batch_norm_relu(x, mean, deviations, gamma, beta, border, pool, border)
    h, w = (shape.h // 2, shape.w // 2) if pool else (shape.h, shape.w)
    edges = y.copy()
    edges[:, border[0] : border[0] + h, border[1] : border[1] + w] = 0
    assert not edges.any()
    dy = _core.pad_nhwc(whole(shape.n, shape.c, h, w, seed=4), border)
    dy[:, : border[0]] = dy[:, :, : border[1]] = np.nan
    dx, dgamma, dbeta = _core.batch_norm_relu_backward(
        dy, x, argmax, mean, deviations, gamma, beta, border, border
    )
    return y, argmax, _core.unpad_nhwc(dx, border), dgamma, dbeta


@POOLS
@pytest.mark.parametrize("border", BORDERS)
@SHAPES
def test_whole_numbers_are_exact(
    variant: str, shape: Norm, border: tuple[int, int], pool: bool
) -> None:
    """Halves of whole numbers round nowhere, and give ties in plenty."""
    if not fits(shape, pool):
        return
    expected = oracle(kernel, shape, pool, border, whole, 0.5)
    found = kernel(shape, pool, border, whole, 0.5)
    assert_same(found[:2], expected[:2])
    assert_same(found[3:], expected[3:])
    # dx divides sums by n·h·w: a rounding of each of its three terms, the last of them up to 3·3·3 in size.
    np.testing.assert_allclose(found[2], expected[2], rtol=4 * EPS, atol=64 * EPS)


@POOLS
@SHAPES
def test_any_numbers(variant: str, shape: Norm, pool: bool) -> None:
    if not fits(shape, pool):
        return
    expected = oracle(kernel, shape, pool, (0, 0), draws, 1.25)
    found = kernel(shape, pool, (0, 0), draws, 1.25)
    np.testing.assert_allclose(found[0], expected[0], rtol=8 * EPS, atol=16 * EPS)
    if pool:
        assert_same(
            found[1], expected[1]
        )  # no two of these draws are within rounding of each other
    terms = shape.n * shape.h * shape.w
    np.testing.assert_allclose(found[2], expected[2], rtol=8 * EPS, atol=64 * EPS)
    for actual, wanted in zip(found[3:], expected[3:], strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=8 * EPS, atol=4 * EPS * terms)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("border", BORDERS)
@SHAPES
def test_statistics(variant: str, shape: Norm, border: tuple[int, int], offset: float) -> None:
    """A mean of a thousand deviations, squared in float32, would leave nothing of a variance."""
    x = draws(*shape) + np.float32(offset)
    x += np.arange(shape.n, dtype=np.float32)[:, None, None, None]  # samples of different means
    padded = _core.pad_nhwc(x, border)
    padded[:, : border[0]] = padded[:, :, : border[1]] = np.nan
    mean, var = _core.batch_norm_stats(padded, border)
    expected_mean, expected_var = oracle(_core.batch_norm_stats, padded, border)
    # Deviations within a sample are of order 1, and their sum rounds as one of h·w terms.
    np.testing.assert_allclose(mean, expected_mean, rtol=EPS, atol=8 * EPS)
    np.testing.assert_allclose(var, expected_var, rtol=16 * EPS, atol=1e-12)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2, 3)), rtol=EPS, atol=8 * EPS)
    np.testing.assert_allclose(var, wide.var(axis=(0, 2, 3)), rtol=16 * EPS, atol=1e-12)


def test_a_constant_channel_has_no_variance(variant: str) -> None:
    x = np.full((5, 17, 4, 3), np.float32(0.1))
    mean, var = F.batch_norm_stats(x)
    np.testing.assert_allclose(mean, 0.1, rtol=EPS)
    assert (var >= 0).all()
    assert (var < 1e-12).all()


@POOLS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@SHAPES
def test_agrees_with_pytorch(variant: str, shape: Norm, pool: bool, dtype: type) -> None:
    count = shape.n * shape.h * shape.w
    if not fits(shape, pool) or count < 2:  # PyTorch normalises no single value
        return
    x = draws(*shape, dtype=dtype)
    _, gamma, beta = parameters(shape.c, draws, dtype)
    mean, var = F.batch_norm_stats(x)
    y, cache = F.batch_norm_relu(x, mean, var, gamma, beta, pool=pool)
    inputs = [tensor(a.astype(np.float64), grad=True) for a in (x, gamma, beta)]
    expected = torch.relu(
        torch.nn.functional.batch_norm(inputs[0], None, None, inputs[1], inputs[2], training=True)
    )
    expected = torch.nn.functional.max_pool2d(expected, 2) if pool else expected
    eps = float(np.finfo(dtype).eps)
    # Few values have a small deviation, by which everything is magnified.
    scale = max(1.0, float(1 / np.sqrt(var.min() + 1e-5)))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=0, atol=32 * eps * scale)
    dy = draws(*y.shape, seed=5, dtype=dtype)
    wanted = gradients(expected, dy.astype(np.float64), inputs)
    found = F.batch_norm_relu_backward(dy, cache)
    assert all(g.dtype == dtype for g in found)
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=64 * eps * scale**2)
    for actual, gradient in zip(found[1:], wanted[1:], strict=True):
        np.testing.assert_allclose(actual, gradient, rtol=0, atol=4 * eps * scale * (count + 8))


@POOLS
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@SHAPES
def test_numpy_agrees(shape: Norm, pool: bool, dtype: type) -> None:
    if not fits(shape, pool):
        return
    x = draws(*shape, dtype=dtype)
    mean, gamma, beta = parameters(shape.c, draws, dtype)
    eps = float(np.finfo(dtype).eps)
    for found, expected in zip(B.batch_norm_stats(x), F.batch_norm_stats(x), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=64 * eps)
    var = draws(shape.c, seed=6, dtype=dtype) ** 2 + dtype(0.1)
    y, cache = B.batch_norm_relu(x, mean, var, gamma, beta, pool=pool)
    expected_y, expected_cache = F.batch_norm_relu(x, mean, var, gamma, beta, pool=pool)
    np.testing.assert_allclose(y, expected_y, rtol=32 * eps, atol=64 * eps)
    dy = draws(*y.shape, seed=5, dtype=dtype)
    ours = F.batch_norm_relu_backward(dy, expected_cache)
    for found, expected in zip(B.batch_norm_relu_backward(dy, cache), ours, strict=True):
        assert found.dtype == dtype
        terms = shape.n * shape.h * shape.w
        np.testing.assert_allclose(found, expected, rtol=64 * eps, atol=32 * eps * (terms + 8))


@POOLS
def test_nan_is_kept(variant: str, pool: bool) -> None:
    x = whole(2, 18, 5, 6)
    x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    ones = np.ones(18, np.float32)
    arguments = x, 0 * ones, ones, ones, ones
    y, cache = F.batch_norm_relu(*arguments, pool=pool)
    expected, expected_cache = oracle(F.batch_norm_relu, *arguments, pool=pool)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    assert_same(cache.argmax, expected_cache.argmax)


@POOLS
def test_gradients_by_central_differences(pool: bool) -> None:
    x, gamma, beta = (draws(*shape, dtype=np.float64) for shape in ((3, 2, 5, 4), (2,), (2,)))

    def forward() -> tuple[Array, Any]:
        return F.batch_norm_relu(x, *F.batch_norm_stats(x), gamma, beta, pool=pool)

    y, cache = forward()
    dy = draws(*y.shape, seed=1, dtype=np.float64)
    step = 1e-6
    for value, gradient in zip(
        (x, gamma, beta), F.batch_norm_relu_backward(dy, cache), strict=True
    ):
        flat = value.reshape(-1)
        for i in range(flat.size):
            old = flat[i]
            flat[i] = old + step
            above = float(np.vdot(forward()[0], dy))
            flat[i] = old - step
            below = float(np.vdot(forward()[0], dy))
            flat[i] = old
            slope = (above - below) / (2 * step)
            assert gradient.reshape(-1)[i] == pytest.approx(slope, rel=1e-5, abs=1e-7)


@POOLS
@pytest.mark.parametrize("ops", [F, B])
def test_the_layer_is_that_of_pytorch(variant: str, pool: bool, ops: Any) -> None:
    layer = BatchNormReLU("n", 18, pool=pool)
    layer.use(ops)
    module = torch.nn.BatchNorm2d(18)
    names = [p.name for p in layer.parameters] + [b.name for b in layer.buffers]
    assert names == ["n_gamma", "n_beta", "n_mean", "n_var"]
    assert not any(p.decay for p in layer.parameters)
    layer.gamma.value[...], layer.beta.value[...] = draws(18), draws(18, seed=1)
    with torch.no_grad():
        module.weight.copy_(tensor(layer.gamma.value))
        module.bias.copy_(tensor(layer.beta.value))

    def theirs(x: Array) -> torch.Tensor:
        y = torch.relu(module(tensor(x)))
        return torch.nn.functional.max_pool2d(y, 2) if pool else y

    for step in range(3):
        x = 2 * draws(4, 18, 6, 5, seed=step) + 1
        y, cache = layer.forward(x, step)
        np.testing.assert_allclose(to_nchw(y), theirs(x).detach().numpy(), rtol=0, atol=64 * EPS)
        layer.backward(to_nchw(y), cache)
    assert module.running_mean is not None
    assert module.running_var is not None
    np.testing.assert_allclose(layer.mean.value, module.running_mean.numpy(), rtol=0, atol=8 * EPS)
    np.testing.assert_allclose(layer.var.value, module.running_var.numpy(), rtol=0, atol=64 * EPS)
    module.eval()
    x = draws(2, 18, 6, 5, seed=9)
    np.testing.assert_allclose(to_nchw(layer(x)), theirs(x).detach().numpy(), rtol=0, atol=64 * EPS)


@POOLS
def test_the_layer_takes_and_gives_padded_images(variant: str, pool: bool) -> None:
    layer = BatchNormReLU("n", 16, pool=pool, border=(1, 2))
    x = draws(3, 16, 7, 4)
    y, cache = layer.forward(x, 1)
    same, other = layer.forward(to_padded(x, (2, 1)), 1)
    assert isinstance(y, Padded)
    assert isinstance(same, Padded)
    assert y.border == same.border == (1, 2)
    assert_same(same.data, y.data)
    dx, padded = layer.backward(y, cache), layer.backward(to_nchw(y), other)
    assert isinstance(dx, Padded)
    assert isinstance(padded, Padded)
    assert padded.border == (2, 1)
    assert_same(to_nchw(padded), to_nchw(dx))
    assert layer.backward(y, cache, need_dx=False) is None


def test_forward_alone_changes_nothing(variant: str) -> None:
    layer = BatchNormReLU("n", 3)
    _, cache = layer.forward(draws(2, 3, 4, 4), 1)
    assert not layer.mean.value.any()
    layer.backward(draws(2, 3, 4, 4), cache)
    assert layer.mean.value.all()


def test_no_sample(variant: str) -> None:
    layer = BatchNormReLU("n", 3)
    nothing = np.empty((0, 3, 4, 4), np.float32)
    assert to_nchw(layer(nothing)).shape == nothing.shape
    for refuse in (lambda: layer.forward(nothing, 1), lambda: F.batch_norm_stats(nothing)):
        with pytest.raises(ValueError, match=r"^x: got .*, wants at least one sample"):
            refuse()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("channels", {"channels": 0}, "channels: got 0, wants at least 1"),
        ("border", {"channels": 3, "border": -1}, "border: got -1"),
    ],
)
def test_errors(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        BatchNormReLU(name, **options)
