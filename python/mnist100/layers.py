"""Layers: validate in ``__init__``, compute in ``forward`` and ``backward``, keep no activation.

``layer(x)`` evaluates. ``layer.forward(x, step)`` trains: it returns the output and what
``layer.backward(dy, cache)`` needs to write every `Parameter.grad` and return dx.

Activations are NCHW arrays, except between conv blocks: those pass `Padded`, zero-padded NHWC, which
is what their kernels read and write. Each layer takes either and converts what it must.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import _core
from . import functional as F  # noqa: N812
from ._checks import Array, IntOrPair
from .operations import Operations
from .padded import Activation as Activation  # noqa: PLC0414
from .padded import Padded as Padded  # noqa: PLC0414
from .padded import batch
from .padded import to_nchw as to_nchw  # noqa: PLC0414
from .padded import to_padded as to_padded  # noqa: PLC0414
from .parameters import Buffer, Initialiser, Tensor, weights
from .parameters import Parameter as Parameter  # noqa: PLC0414
from .parameters import he_normal as he_normal  # noqa: PLC0414


class Layer:
    """A step of a network. Subclasses without parameters or randomness implement two methods."""

    parameters: Sequence[Parameter] = ()
    buffers: Sequence[Buffer] = ()
    ops: Operations = F

    def use(self, ops: Operations) -> None:
        """Compute with the functions of another backend from now on."""
        self.ops = ops

    def __call__(self, x: Activation) -> Activation:
        """Evaluation mode."""
        return self.forward(x, 0)[0]

    def forward(self, x: Activation, step: int) -> tuple[Activation, Any]:
        """Training mode: the output and the cache for `backward`. `step` keys random draws."""
        raise NotImplementedError  # abstract

    def backward(self, dy: Activation, cache: Any, need_dx: bool = True) -> Activation | None:
        """Writes parameter gradients and returns dx (None unless `need_dx`)."""
        raise NotImplementedError  # abstract


class Conv2d(Layer):
    """y = x ⋆ w + b, with ``relu`` its positive part: (n, c, h, w) -> (n, oc, oh, ow).

    Stride 1 and "same" padding of an odd kernel go from `Padded` to `Padded`. Without ``bias`` there is no
    border around the output: a normalisation follows, which has the bias and reads none.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        out_channels: int,
        kernel_size: IntOrPair,
        *,
        stride: IntOrPair = 1,
        padding: IntOrPair = 0,
        relu: bool = False,
        bias: bool = True,
        seed: int = 0,
        stream: int = 0,
        init: Initialiser = he_normal,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        kernel = check.pair("kernel_size", kernel_size, 1)
        self.stride = check.pair("stride", stride, 1)
        self.padding = check.pair("padding", padding, 0)
        self.relu = relu
        self.is_same = self.stride == (1, 1) and kernel == tuple(2 * p + 1 for p in self.padding)
        c = check.integer("in_channels", in_channels, 1)
        oc = check.integer("out_channels", out_channels, 1)
        self.border = self.padding if bias else (0, 0)
        self.weight, added = weights(name, (oc, c, *kernel), seed, stream, dtype, init)
        self.bias = added if bias else None
        self.parameters = (self.weight, added) if bias else (self.weight,)

    def forward(self, x: Activation, step: int) -> tuple[Activation, tuple[Array, Array | None]]:
        w, b = self.weight.value, None if self.bias is None else self.bias.value
        if self.is_same and self.ops is F:
            x = to_padded(batch("x", x, (None, w.shape[1], None, None), w.dtype), self.padding)
            padded = _core.conv_same(x.data, w, b, self.relu, self.border)
            return Padded(padded, self.border), (x.data, padded if self.relu else None)
        x = to_nchw(x)
        y = self.ops.conv2d(x, w, b, self.stride, self.padding)
        y = self.ops.relu(y) if self.relu else y
        return y, (x, y if self.relu else None)

    def backward(
        self, dy: Activation, cache: tuple[Array, Array | None], need_dx: bool = True
    ) -> Activation | None:
        x, y = cache
        w = self.weight.value
        dx: Array | None
        if self.is_same and self.ops is F:
            wants = Padded(x, self.padding).shape
            dy = batch("dy", dy, (wants[0], len(w), *wants[2:]), w.dtype)
            dx, self.weight.grad, db = _core.conv_same_backward(
                to_padded(dy, self.border).data, x, y, w, self.border, need_dx
            )
        else:
            gradient = to_nchw(dy) if y is None else self.ops.relu_backward(to_nchw(dy), y)
            dx, self.weight.grad, db = self.ops.conv2d_backward(
                gradient, x, w, self.stride, self.padding, need_dx=need_dx
            )
        if self.bias is not None:
            self.bias.grad = db
        if dx is None or not (self.is_same and self.ops is F):
            return dx
        return Padded(dx, self.padding)


class ConvBlock(Layer):
    """max_pool2d(relu(x ⋆ w + b), 2) with an odd kernel and "same" padding, as one kernel."""

    def __init__(
        self,
        name: str,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        *,
        seed: int = 0,
        stream: int = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        k = check.integer("kernel_size", kernel_size, 1)
        if k % 2 == 0:
            raise check.fail("kernel_size", k, "an odd number")
        c = check.integer("in_channels", in_channels, 1)
        oc = check.integer("out_channels", out_channels, 1)
        self.border = (k // 2, k // 2)
        self.weight, self.bias = self.parameters = weights(name, (oc, c, k, k), seed, stream, dtype)

    def forward(self, x: Activation, step: int) -> tuple[Activation, Any]:
        w, b = self.weight.value, self.bias.value
        if self.ops is not F:  # only our kernels know the padded layout
            return self.ops.conv_block(to_nchw(x), w, b)
        x = batch("x", x, (None, w.shape[1], None, None), w.dtype)
        check.pooled("x", x.shape)
        data = to_padded(x, self.border).data
        y, argmax = _core.conv_block(data, w, b, self.border)
        return Padded(y, self.border), (data, y, argmax)

    def backward(self, dy: Activation, cache: Any, need_dx: bool = True) -> Activation | None:
        if self.ops is not F:
            dx, self.weight.grad, self.bias.grad = self.ops.conv_block_backward(
                to_nchw(dy), cache, need_dx=need_dx
            )
            return dx
        x, y, argmax = cache
        dy = batch("dy", dy, Padded(y, self.border).shape, y.dtype)
        dx, self.weight.grad, self.bias.grad = _core.conv_block_backward(
            to_padded(dy, self.border).data, x, y, argmax, self.weight.value, self.border, need_dx
        )
        return None if dx is None else Padded(dx, self.border)


class MaxPool2d(Layer):
    """Largest value of each window; padding never wins."""

    def __init__(
        self, kernel_size: IntOrPair, stride: IntOrPair | None = None, padding: IntOrPair = 0
    ) -> None:
        kernel = check.pair("kernel_size", kernel_size, 1)
        self.window = (
            kernel,
            kernel if stride is None else check.pair("stride", stride, 1),
            check.pair("padding", padding, 0),
        )

    def forward(self, x: Activation, step: int) -> tuple[Array, Any]:
        x = to_nchw(x)
        y, argmax = self.ops.max_pool2d(x, *self.window)
        return y, (argmax, x.shape)

    def backward(self, dy: Activation, cache: Any, need_dx: bool = True) -> Array | None:
        if not need_dx:
            return None
        argmax, x_shape = cache
        return self.ops.max_pool2d_backward(to_nchw(dy), argmax, x_shape, *self.window)


class ReLU(Layer):
    """max(x, 0)."""

    def forward(self, x: Activation, step: int) -> tuple[Array, Array]:
        y = self.ops.relu(to_nchw(x))
        return y, y

    def backward(self, dy: Activation, cache: Array, need_dx: bool = True) -> Array | None:
        return self.ops.relu_backward(to_nchw(dy), cache) if need_dx else None


class Flatten(Layer):
    """(n, c, h, w) -> (n, c·h·w), in that order."""

    def forward(self, x: Activation, step: int) -> tuple[Array, tuple[int, ...]]:
        x = check.array("x", to_nchw(x))
        if x.ndim < 2:
            raise check.fail("x", check.describe(x), "samples of at least one dimension")
        return x.reshape(len(x), math.prod(x.shape[1:])), x.shape

    def backward(
        self, dy: Activation, cache: tuple[int, ...], need_dx: bool = True
    ) -> Array | None:
        if not need_dx:
            return None
        dy = check.array("dy", to_nchw(dy))
        return check.shaped("dy", dy, (cache[0], math.prod(cache[1:])), dy.dtype).reshape(cache)


class Linear(Layer):
    """y = x Wᵀ + b, (n, in) -> (n, out)."""

    def __init__(
        self,
        name: str,
        in_features: int,
        out_features: int,
        *,
        seed: int = 0,
        stream: int = 0,
        init: Initialiser = he_normal,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        shape = (
            check.integer("out_features", out_features, 1),
            check.integer("in_features", in_features, 1),
        )
        self.weight, self.bias = self.parameters = weights(name, shape, seed, stream, dtype, init)

    def forward(self, x: Activation, step: int) -> tuple[Array, Array]:
        x = to_nchw(x)
        return self.ops.linear(x, self.weight.value, self.bias.value), x

    def backward(self, dy: Activation, cache: Array, need_dx: bool = True) -> Array | None:
        dx, self.weight.grad, self.bias.grad = self.ops.linear_backward(
            to_nchw(dy), cache, self.weight.value, need_dx=need_dx
        )
        return dx


class LinearBlock(Layer):
    """y = dropout(relu(x Wᵀ + b), p), (n, in) -> (n, out), as one kernel; no dropout in evaluation.

    `dropout_seed` tells the layers of a network apart.
    """

    def __init__(
        self,
        name: str,
        in_features: int,
        out_features: int,
        p: float = 0.0,
        *,
        dropout_seed: int = 0,
        seed: int = 0,
        stream: int = 0,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        self.p = check.probability("p", p)
        self.dropout_seed = check.word("dropout_seed", dropout_seed)
        shape = (
            check.integer("out_features", out_features, 1),
            check.integer("in_features", in_features, 1),
        )
        self.weight, self.bias = self.parameters = weights(name, shape, seed, stream, dtype)

    def __call__(self, x: Activation) -> Array:
        return self._apply(to_nchw(x), 0.0, 0)

    def forward(self, x: Activation, step: int) -> tuple[Array, tuple[Array, Array]]:
        x = to_nchw(x)
        y = self._apply(x, self.p, step)
        return y, (y, x)

    def _apply(self, x: Array, p: float, step: int) -> Array:
        weight, bias = self.weight.value, self.bias.value
        return self.ops.linear_block(x, weight, bias, p, seed=self.dropout_seed, step=step)

    def backward(
        self, dy: Activation, cache: tuple[Array, Array], need_dx: bool = True
    ) -> Array | None:
        dx, self.weight.grad, self.bias.grad = self.ops.linear_block_backward(
            to_nchw(dy), *cache, self.weight.value, self.p, need_dx=need_dx
        )
        return dx


class Dropout(Layer):
    """Inverted dropout in training, identity in evaluation. `seed` tells layers of a network apart."""

    def __init__(self, p: float, *, seed: int = 0) -> None:
        self.p = check.probability("p", p)
        self.seed = check.word("seed", seed)

    def __call__(self, x: Activation) -> Activation:
        return x

    def forward(self, x: Activation, step: int) -> tuple[Array, Array | None]:
        if self.p == 0:
            return to_nchw(x), None
        return self.ops.dropout(to_nchw(x), self.p, seed=self.seed, step=step)

    def backward(
        self, dy: Activation, cache: Array | None, need_dx: bool = True
    ) -> Activation | None:
        if not need_dx or cache is None:
            return dy if need_dx else None
        return self.ops.dropout_backward(to_nchw(dy), cache, self.p)


class Sequential(Layer):
    """Layers one after the other."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self.layers = tuple(layers)
        if not self.layers:
            raise check.fail("layers", "none", "at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise check.fail_type("layers", check.describe(layer), "layers only")
        self.parameters = [p for layer in self.layers for p in layer.parameters]
        self.buffers = [b for layer in self.layers for b in layer.buffers]
        # Before the first parameter a gradient is of no use but to the caller.
        learning = (i for i, layer in enumerate(self.layers) if layer.parameters)
        self.first = next(learning, len(self.layers))
        names = [tensor.name for tensor in self.tensors()]
        if len(set(names)) < len(names):
            raise check.fail("layers", f"parameters {names}", "names that differ")

    def tensors(self) -> list[Tensor]:
        """Every parameter, then every buffer, in the order of the layers: all that training changes."""
        return [*self.parameters, *self.buffers]

    def use(self, ops: Operations) -> None:
        for layer in self.layers:
            layer.use(ops)

    def __call__(self, x: Activation) -> Activation:
        for layer in self.layers:
            x = layer(x)
        return x

    def forward(self, x: Activation, step: int) -> tuple[Activation, list[Any]]:
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, step)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Activation, cache: list[Any], need_dx: bool = True) -> Activation | None:
        grad: Activation | None = dy
        for i in range(len(self.layers) - 1, -1 if need_dx else self.first - 1, -1):
            assert grad is not None
            grad = self.layers[i].backward(grad, cache[i], need_dx or i > self.first)
        return grad if need_dx else None
