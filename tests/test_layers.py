"""Layers: what they compute, keep, refuse and pass on."""

from __future__ import annotations

import math
import re
from collections.abc import Callable

import numpy as np
import pytest

from mnist100 import functional as F  # noqa: N812
from mnist100.layers import (
    Activation,
    Conv2d,
    ConvBlock,
    Dropout,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    Padded,
    Parameter,
    ReLU,
    Sequential,
    he_normal,
    to_nchw,
    to_padded,
)
from support import Array, assert_same, draws, whole


def as_array(x: Array | Padded | None) -> Array:
    assert isinstance(x, np.ndarray)
    return x


def test_parameter() -> None:
    p = Parameter("a_W", draws(2, 3), decay=True)
    assert_same(p.grad, np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("shape", [(256, 300), (32, 16, 5, 5)])
def test_he_initialisation(shape: tuple[int, ...]) -> None:
    w = he_normal(shape, seed=1, stream=2, dtype=np.float32)
    fan_in = math.prod(shape[1:])
    # The sample deviation of n draws lies within five of its own deviations, 1/√(2n).
    assert abs(w.std() / math.sqrt(2 / fan_in) - 1) < 5 / math.sqrt(2 * w.size)
    assert abs(w.mean()) < 5 * math.sqrt(2 / fan_in / w.size)
    assert_same(he_normal(shape, seed=1, stream=2, dtype=np.float32), w)
    assert (he_normal(shape, seed=1, stream=3, dtype=np.float32) != w).any()
    assert (he_normal(shape, seed=2, stream=2, dtype=np.float32) != w).any()


def test_conv2d_layer(variant: str) -> None:
    layer = Conv2d("c", 3, 4, (2, 3), stride=(1, 2), padding=1, seed=5)
    w, b = layer.parameters
    assert (w.name, w.value.shape, w.decay) == ("c_W", (4, 3, 2, 3), True)
    assert (b.name, b.value.shape, b.decay) == ("c_b", (4,), False)
    assert not b.value.any()
    x = draws(2, 3, 6, 7)
    y, cache = layer.forward(x, 1)
    assert_same(y, F.conv2d(x, w.value, b.value, (1, 2), (1, 1)))
    assert_same(layer(x), y)
    y = as_array(y)
    dx = layer.backward(y, cache)
    assert_same((dx, w.grad, b.grad), F.conv2d_backward(y, x, w.value, (1, 2), (1, 1)))
    assert layer.backward(y, cache, need_dx=False) is None


@pytest.mark.parametrize("relu", [False, True])
def test_conv2d_layers_of_same_size_pass_padded_images_on(variant: str, relu: bool) -> None:
    net = Sequential(
        [
            Conv2d("a", 3, 16, 3, padding=1, relu=relu, seed=1),
            Conv2d("b", 16, 5, (1, 5), padding=(0, 2), relu=relu, seed=2),
        ]
    )
    x = whole(2, 3, 6, 7)
    for p in net.parameters:
        p.value[...] = whole(*p.value.shape, seed=3)
    y, cache = net.forward(x, 1)
    assert isinstance(y, Padded)
    dy = whole(2, 5, 6, 7, seed=4)
    dx = net.backward(dy, cache)
    assert isinstance(dx, Padded)
    assert net.backward(dy, cache, need_dx=False) is None

    def clip(z: Array) -> Array:
        return F.relu(z) if relu else z

    def gate(d: Array, z: Array) -> Array:
        return F.relu_backward(d, z) if relu else d

    (a_w, a_b), (b_w, b_b) = net.layers[0].parameters, net.layers[1].parameters
    hidden = clip(F.conv2d(x, a_w.value, a_b.value, padding=1))
    expected = clip(F.conv2d(hidden, b_w.value, b_b.value, padding=(0, 2)))
    assert_same(to_nchw(y), expected)
    back = F.conv2d_backward(gate(dy, expected), hidden, b_w.value, padding=(0, 2))
    assert back[0] is not None
    first = F.conv2d_backward(gate(back[0], hidden), x, a_w.value, padding=1)
    assert_same((to_nchw(dx), a_w.grad, a_b.grad, b_w.grad, b_b.grad), (*first, *back[1:]))


def test_a_convolution_without_bias(variant: str) -> None:
    layer = Conv2d("c", 3, 16, 3, padding=1, bias=False, seed=5)
    (w,) = layer.parameters
    assert (w.name, w.decay, layer.bias) == ("c_W", True, None)
    x, dy = whole(2, 3, 6, 7), whole(2, 16, 6, 7, seed=1)
    w.value[...] = whole(*w.value.shape, seed=2)
    y, cache = layer.forward(x, 1)
    assert isinstance(y, Padded)
    assert y.border == (0, 0)
    assert_same(to_nchw(y), F.conv2d(x, w.value, None, padding=1))
    expected = F.conv2d_backward(dy, x, w.value, padding=1)
    for gradient in (dy, to_padded(dy, (0, 0)), to_padded(dy, (1, 1))):
        dx = layer.backward(gradient, cache)
        assert isinstance(dx, Padded)
        assert dx.border == (1, 1)
        assert_same((to_nchw(dx), w.grad), expected[:2])


def test_linear_layer(variant: str) -> None:
    layer = Linear("f", 5, 3, seed=5)
    w, b = layer.parameters
    assert (w.name, w.value.shape, w.decay) == ("f_W", (3, 5), True)
    assert (b.name, b.value.shape, b.decay) == ("f_b", (3,), False)
    x = draws(4, 5)
    y, cache = layer.forward(x, 1)
    assert_same(y, F.linear(x, w.value, b.value))
    dx = layer.backward(y, cache)
    assert_same((dx, w.grad, b.grad), F.linear_backward(y, x, w.value))
    assert layer.backward(y, cache, need_dx=False) is None


def test_layers_without_parameters(variant: str) -> None:
    x = draws(2, 3, 6, 7)
    y, cache = ReLU().forward(x, 1)
    assert_same(y, F.relu(x))
    assert_same(ReLU().backward(x, cache), F.relu_backward(x, y))
    pool = MaxPool2d((3, 2), 2, 1)
    y, cache = pool.forward(x, 1)
    assert_same(y, F.max_pool2d(x, (3, 2), 2, 1)[0])
    expected = F.max_pool2d_backward(y, cache[0], (2, 3, 6, 7), (3, 2), 2, 1)
    assert_same(pool.backward(y, cache), expected)
    flat, shape = Flatten().forward(x, 1)
    assert_same(flat, x.reshape(2, -1))
    assert np.shares_memory(flat, x)
    assert_same(Flatten().backward(flat, shape), x)
    layers: list[Layer] = [ReLU(), pool, Flatten()]
    for layer in layers:
        out, kept = layer.forward(x, 1)
        assert layer.backward(out, kept, need_dx=False) is None
        assert list(layer.parameters) == []


def test_dropout_layer(variant: str) -> None:
    x = draws(4, 50)
    layer = Dropout(0.4, seed=7)
    assert layer(x) is x
    y, mask = layer.forward(x, 3)
    assert_same((y, mask), F.dropout(x, 0.4, seed=7, step=3))
    assert mask is not None
    assert_same(layer.backward(y, mask), F.dropout_backward(y, mask, 0.4))
    assert layer.backward(y, mask, need_dx=False) is None
    assert (as_array(layer.forward(x, 4)[0]) != y).any()
    same, none = Dropout(0.0).forward(x, 3)
    assert same is x
    assert none is None
    assert Dropout(0.0).backward(x, None) is x
    assert Dropout(0.0).backward(x, None, need_dx=False) is None


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_a_block_is_its_three_layers(variant: str, kernel: int) -> None:
    block = ConvBlock("c", 3, 5, kernel, seed=1)
    parts = Sequential(
        [Conv2d("c", 3, 5, kernel, padding=kernel // 2, seed=1), ReLU(), MaxPool2d(2)]
    )
    for p, q in zip(block.parameters, parts.parameters, strict=True):
        p.value[...] = q.value[...] = whole(*p.value.shape)
    x = whole(2, 3, 7, 8)
    y, cache = block.forward(x, 1)
    other, others = parts.forward(x, 1)
    assert_same(to_nchw(y), other)
    dy = whole(2, 5, 3, 4)
    dx, other_dx = block.backward(dy, cache), parts.backward(dy, others)
    assert dx is not None
    assert other_dx is not None
    assert_same(to_nchw(dx), to_nchw(other_dx))
    for p, q in zip(block.parameters, parts.parameters, strict=True):
        assert_same(p.grad, q.grad)
    assert block.backward(dy, cache, need_dx=False) is None


def test_blocks_hand_on_their_own_layout(variant: str) -> None:
    first, second = ConvBlock("a", 1, 16), ConvBlock("b", 16, 5)
    y, _ = first.forward(draws(2, 1, 12, 10), 1)
    assert isinstance(y, Padded)
    assert y.data.shape == (2, 6 + 2, 5 + 2, 16)
    assert to_padded(y, (1, 1)) is y
    _, cache = second.forward(y, 1)
    assert cache[0] is y.data
    wider = to_padded(y, (2, 0))
    assert wider.data.shape == (2, 6 + 4, 5, 16)
    assert_same(to_nchw(wider), to_nchw(y))


def small() -> list[Layer]:
    return [ConvBlock("c1", 2, 3), ConvBlock("c2", 3, 4), Flatten(), Linear("f1", 4, 3)]


def test_sequential(variant: str) -> None:
    layers = small()
    net = Sequential(layers)
    assert [p.name for p in net.parameters] == ["c1_W", "c1_b", "c2_W", "c2_b", "f1_W", "f1_b"]
    x = draws(3, 2, 4, 5)
    expected: Array | Padded = x
    for layer in layers:
        expected = layer(expected)
    y, caches = net.forward(x, 1)
    assert_same(net(x), expected)
    assert_same(y, expected)
    dx = net.backward(y, caches)
    assert dx is not None
    assert to_nchw(dx).shape == x.shape
    grads = [p.grad.copy() for p in net.parameters]
    assert all(g.any() for g in grads)
    assert net.backward(y, caches, need_dx=False) is None
    for p, g in zip(net.parameters, grads, strict=True):
        assert_same(p.grad, g)  # written, not added to


class Unasked(Flatten):
    """A layer that is not to be asked for its gradient."""

    def backward(self, dy: Activation, cache: tuple[int, ...], need_dx: bool = True) -> None:
        raise AssertionError("nothing before this layer learns")


def test_no_gradient_is_computed_before_the_first_parameter(variant: str) -> None:
    x = draws(3, 2, 4, 4)
    net = Sequential([Unasked(), Linear("fc", 32, 5)])
    plain = Sequential([Flatten(), Linear("fc", 32, 5)])
    y, cache = net.forward(x, 1)
    assert net.backward(y, cache, need_dx=False) is None
    y, cache = plain.forward(x, 1)
    assert plain.backward(y, cache) is not None
    assert_same(net.parameters[0].grad, plain.parameters[0].grad)
    with pytest.raises(AssertionError, match="nothing before"):
        net.backward(to_nchw(y), [x.shape, cache[1]])


def test_layers_keep_no_activation(variant: str) -> None:
    net = Sequential(small())
    one, other = draws(3, 2, 4, 5), draws(3, 2, 4, 5, seed=1)
    y, caches = net.forward(one, 1)
    net.backward(y, caches)
    expected = [p.grad.copy() for p in net.parameters]
    net.forward(other, 1)
    net.backward(y, caches)
    for p, g in zip(net.parameters, expected, strict=True):
        assert_same(p.grad, g)


def test_an_empty_batch(variant: str) -> None:
    net = Sequential(small())
    y, caches = net.forward(np.empty((0, 2, 4, 5), np.float32), 1)
    assert to_nchw(y).shape == (0, 3)
    net.backward(y, caches)
    assert not any(p.grad.any() for p in net.parameters)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Conv2d("c", 0, 4, 3), ValueError, "in_channels: got 0, wants at least 1"),
        (lambda: Conv2d("c", 1, 0, 3), ValueError, "out_channels: got 0, wants at least 1"),
        (lambda: Conv2d("c", 1, 4, 0), ValueError, "kernel_size: got 0"),
        (lambda: Conv2d("c", 1, 4, 3, stride=0), ValueError, "stride: got 0"),
        (lambda: Conv2d("c", 1, 4, 3, padding=-1), ValueError, "padding: got -1"),
        (lambda: ConvBlock("c", 1, 4, 2), ValueError, "kernel_size: got 2, wants an odd number"),
        (lambda: ConvBlock("c", 1.5, 4), TypeError, "in_channels: got float 1.5"),  # type: ignore[arg-type]
        (lambda: Linear("f", 0, 4), ValueError, "in_features: got 0"),
        (lambda: Linear("f", 4, -1), ValueError, "out_features: got -1"),
        (lambda: MaxPool2d((2, 2, 2)), ValueError, "kernel_size: got (2, 2, 2)"),  # type: ignore[arg-type]
        (lambda: Dropout(1.0), ValueError, "p: got 1.0"),
        (lambda: Dropout(-0.1), ValueError, "p: got -0.1"),
        (lambda: Dropout(0.5, seed=-1), ValueError, "seed: got -1"),
        (lambda: Sequential([]), ValueError, "layers: got none"),
        (lambda: Sequential([ConvBlock("c", 1, 1)] * 2), ValueError, "layers: got parameters"),
        (lambda: Linear("f", 4, 3)(draws(2, 5)), ValueError, "w: got float32 array"),
        (lambda: Conv2d("c", 1, 4, 3)(draws(1, 2, 4, 4)), ValueError, "w: got float32 array"),
    ],
)
def test_errors(make: Callable[[], object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        make()
