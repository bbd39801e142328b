"""Every backward pass against central differences in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from mnist100 import functional as F  # noqa: N812
from mnist100.layers import (
    Conv2d,
    ConvBlock,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    to_nchw,
)
from mnist100.models import ARCHITECTURES
from support import Array, draws

# Rounding of a loss of order 10 to 100, over 2H, is some 1e-9; what H² leaves out is less.
H = 1e-6
TOLERANCE = 1e-6


def assert_gradient(
    loss: Callable[[], float], value: Array, gradient: Array | None, entries: int
) -> None:
    """`gradient` of loss() at a few randomly chosen entries of `value`, which is moved in place."""
    assert gradient is not None
    assert gradient.shape == value.shape
    assert gradient.dtype == value.dtype == np.float64
    flat = value.reshape(-1)
    for i in np.random.default_rng(value.size).integers(0, value.size, entries):
        old = flat[i]
        flat[i] = old + H
        above = loss()
        flat[i] = old - H
        below = loss()
        flat[i] = old
        slope = (above - below) / (2 * H)
        assert gradient.reshape(-1)[i] == pytest.approx(slope, rel=TOLERANCE, abs=TOLERANCE), i


@dataclass(frozen=True)
class Op:
    """forward(*inputs) -> y; backward(dy, *inputs) -> one gradient for each input."""

    shapes: Sequence[tuple[int, ...]]
    forward: Callable[..., Array]
    backward: Callable[..., Sequence[Array | None]]


X, W = (2, 3, 5, 6), (4, 3, 3, 2)
STRIDE, PADDING = (2, 1), (1, 0)
POOL = (3, 2), (2, 1), (1, 1)


def conv_block_backward(dy: Array, *inputs: Array) -> Sequence[Array | None]:
    return F.conv_block_backward(dy, F.conv_block(*inputs)[1])


def max_pool_backward(dy: Array, x: Array) -> Sequence[Array]:
    return [F.max_pool2d_backward(dy, F.max_pool2d(x, *POOL)[1], X, *POOL)]


def dropout_backward(dy: Array, x: Array) -> Sequence[Array]:
    return [F.dropout_backward(dy, F.dropout(x, 0.4, seed=1, step=2)[1], 0.4)]


OPS = {
    "gemm": Op(
        [(3, 5), (5, 4)],
        lambda a, b: F.gemm(a, b, alpha=2.0),
        lambda dy, a, b: [
            F.gemm(dy, b, trans_b=True, alpha=2.0),
            F.gemm(a, dy, trans_a=True, alpha=2.0),
        ],
    ),
    "im2col": Op(
        [X],
        lambda x: F.im2col(x, 3, STRIDE, PADDING),
        lambda dy, x: [F.col2im(dy, X, 3, STRIDE, PADDING)],
    ),
    "col2im": Op(
        [(24, 27)],
        lambda cols: F.col2im(cols, X, 3, STRIDE, PADDING),
        lambda dy, cols: [F.im2col(dy, 3, STRIDE, PADDING)],
    ),
    "conv2d": Op(
        [X, W, (4,)],
        lambda x, w, b: F.conv2d(x, w, b, STRIDE, PADDING),
        lambda dy, x, w, b: F.conv2d_backward(dy, x, w, STRIDE, PADDING),
    ),
    "max_pool2d": Op([X], lambda x: F.max_pool2d(x, *POOL)[0], max_pool_backward),
    "conv_block": Op([X, (4, 3, 3, 5), (4,)], lambda *a: F.conv_block(*a)[0], conv_block_backward),
    "linear": Op([(3, 5), (4, 5), (4,)], F.linear, lambda dy, x, w, b: F.linear_backward(dy, x, w)),
    "relu": Op([(5, 7)], F.relu, lambda dy, x: [F.relu_backward(dy, F.relu(x))]),
    "dropout": Op([(5, 7)], lambda x: F.dropout(x, 0.4, seed=1, step=2)[0], dropout_backward),
}


@pytest.mark.parametrize("name", OPS)
def test_operations(name: str) -> None:
    op = OPS[name]
    inputs = [draws(*shape, seed=seed, dtype=np.float64) for seed, shape in enumerate(op.shapes)]
    y = op.forward(*inputs)
    assert y.dtype == np.float64
    dy = draws(*y.shape, seed=9, dtype=np.float64)
    found = op.backward(dy, *inputs)
    for value, gradient in zip(inputs, found, strict=True):
        assert_gradient(lambda: float(np.vdot(op.forward(*inputs), dy)), value, gradient, 12)


def test_cross_entropy() -> None:
    logits, labels = draws(4, 6, dtype=np.float64), np.array([0, 5, 2, 2])
    _, dlogits = F.softmax_cross_entropy(logits, labels)
    assert_gradient(lambda: F.softmax_cross_entropy(logits, labels)[0], logits, dlogits, 12)


D = np.float64
NETWORKS: dict[str, Callable[[], list[Layer]]] = {
    "general": lambda: [
        Conv2d("c1", 3, 4, 3, stride=(2, 1), padding=1, dtype=D),
        ReLU(),
        MaxPool2d(2, 1),
        Dropout(0.3, seed=1),
        Flatten(),
        Linear("f1", 4 * 3 * 7, 6, dtype=D),
    ],
    "convolution last": lambda: [
        Conv2d("c1", 3, 4, (1, 3), dtype=D),
        Conv2d("c2", 4, 5, 3, dtype=D),
        Conv2d("c3", 5, 5, 3, padding=1, relu=True, dtype=D),
    ],
    "blocks": lambda: [
        ConvBlock("b1", 3, 5, dtype=D),
        ConvBlock("b2", 5, 4, dtype=D),
        Flatten(),
        Linear("f1", 4 * 2 * 2, 5, dtype=D),
        ReLU(),
        Dropout(0.5, seed=2),
        Linear("f2", 5, 3, dtype=D),
    ],
    "blocks of other kernels": lambda: [
        ConvBlock("b1", 3, 5, 5, dtype=D),
        Dropout(0.0),
        ConvBlock("b2", 5, 4, 1, dtype=D),
        Conv2d("c1", 4, 2, 2, dtype=D),
    ],
}


@pytest.mark.parametrize("name", NETWORKS)
def test_small_networks(name: str) -> None:
    net = Sequential(NETWORKS[name]())
    for p in net.parameters:
        if not p.decay:
            p.value[...] = draws(*p.value.shape, dtype=np.float64)
    x = draws(2, 3, 8, 8, dtype=np.float64)

    def output() -> Array:
        return to_nchw(net.forward(x, 3)[0])

    y, caches = net.forward(x, 3)
    dy = draws(*to_nchw(y).shape, seed=1, dtype=np.float64)
    dx = net.backward(dy, caches)
    assert dx is not None
    pairs = [(p.value, p.grad) for p in net.parameters] + [(x, to_nchw(dx))]
    for value, gradient in pairs:
        assert_gradient(lambda: float(np.vdot(output(), dy)), value, gradient, 6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_whole_networks(architecture: str) -> None:
    narrow = (
        {"channels": ((2,), (3, 3), (4, 4))} if architecture == "siamese" else {}
    )  # the naive loops are slow
    model = ARCHITECTURES[architecture](seed=1, dtype=np.float64, **narrow)
    x, labels = draws(2, 1, 28, 56, dtype=np.float64), np.array([3, 97])

    def loss() -> float:
        return F.softmax_cross_entropy(to_nchw(model.net.forward(x, 5)[0]), labels)[0]

    logits, caches = model.net.forward(x, 5)
    _, dlogits = F.softmax_cross_entropy(to_nchw(logits), labels)
    assert model.net.backward(dlogits, caches, need_dx=False) is None
    for p in model.parameters():
        assert_gradient(loss, p.value, p.grad, 3)
