"""Batch normalisation with ReLU and pooling as one layer."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import _checks as check
from . import _core
from . import functional as F  # noqa: N812
from ._checks import Array, IntOrPair
from .functional.normalisation import inverse_deviation
from .layers import Layer
from .padded import Activation, Padded, batch, to_nchw, to_padded
from .parameters import Buffer, Parameter

MOMENTUM = 0.1  # what a batch moves the running statistics by, as in torch.nn.BatchNorm2d


class BatchNormReLU(Layer):
    """relu((x - mean) / √(var + 1e-5) · gamma + beta), with ``pool`` its 2x2 max-pool, as one kernel.

    Ioffe and Szegedy, "Batch normalization" (2015). Training takes mean and biased variance of each channel
    from the batch, and moves the running ones, with the unbiased variance, a tenth of the way towards them;
    evaluation takes the running ones. They move in `backward`, so that a step that is refused changes
    nothing.

    Parameters
    ----------
    channels : of the input and the output
    pool : whether the max-pool follows
    border : of zeros around the output, what the next layer's kernel reads beyond the edge
    """

    def __init__(
        self,
        name: str,
        channels: int,
        *,
        pool: bool = False,
        border: IntOrPair = 1,
        dtype: npt.DTypeLike = np.float32,
    ) -> None:
        c = check.integer("channels", channels, 1)
        dtype = check.floating("dtype", dtype)
        self.pool = pool
        self.border = check.pair("border", border, 0)
        self.gamma, self.beta = self.parameters = (
            Parameter(f"{name}_gamma", np.ones(c, dtype), decay=False),
            Parameter(f"{name}_beta", np.zeros(c, dtype), decay=False),
        )
        self.mean, self.var = self.buffers = (
            Buffer(f"{name}_mean", np.zeros(c, dtype)),
            Buffer(f"{name}_var", np.ones(c, dtype), least=0.0),
        )

    def __call__(self, x: Activation) -> Activation:
        gamma, beta = self.gamma.value, self.beta.value
        if self.ops is not F:
            mean, var = self.mean.value, self.var.value
            return self.ops.batch_norm_relu(to_nchw(x), mean, var, gamma, beta, pool=self.pool)[0]
        x = self._read(x)
        inv_std = inverse_deviation(self.var.value)
        y, _ = _core.batch_norm_relu(
            x.data, self.mean.value, inv_std, gamma, beta, x.border, self.pool, self.border
        )
        return Padded(y, self.border)

    def forward(self, x: Activation, step: int) -> tuple[Activation, Any]:
        gamma, beta = self.gamma.value, self.beta.value
        if self.ops is not F:  # only our kernels know the padded layout
            x = to_nchw(x)
            mean, var = self.ops.batch_norm_stats(x)
            y, kept = self.ops.batch_norm_relu(x, mean, var, gamma, beta, pool=self.pool)
            return y, (mean, var, x.size // len(mean), kept)
        x = self._read(x)
        n, _, h, w = x.shape
        if n == 0:
            raise check.fail("x", check.describe(x.data), "at least one sample")
        mean, var = _core.batch_norm_stats(x.data, x.border)
        inv_std = inverse_deviation(var)
        y, argmax = _core.batch_norm_relu(
            x.data, mean, inv_std, gamma, beta, x.border, self.pool, self.border
        )
        return Padded(y, self.border), (mean, var, n * h * w, (x, argmax, inv_std))

    def backward(self, dy: Activation, cache: Any, need_dx: bool = True) -> Activation | None:
        mean, var, count, kept = cache
        dx: Activation
        if self.ops is not F:
            dx, self.gamma.grad, self.beta.grad = self.ops.batch_norm_relu_backward(
                to_nchw(dy), kept
            )
        else:
            x, argmax, inv_std = kept
            n, c, h, w = x.shape
            dy = batch("dy", dy, (n, c, h // 2, w // 2) if self.pool else x.shape, mean.dtype)
            dy = _in_nhwc(dy)
            gradient, self.gamma.grad, self.beta.grad = _core.batch_norm_relu_backward(
                dy.data,
                x.data,
                argmax,
                mean,
                inv_std,
                self.gamma.value,
                self.beta.value,
                x.border,
                dy.border,
            )
            dx = Padded(gradient, x.border)
        self._move_running(mean, var, count)
        return dx if need_dx else None

    @staticmethod
    def batch_statistics(cache: Any) -> tuple[Array, Array, int]:
        """What `forward` normalised by: the batch's means, biased variances and number of values a channel."""
        mean, var, count, _ = cache
        return mean, var, count

    def _read(self, x: Activation) -> Padded:
        gamma = self.gamma.value
        x = batch("x", x, (None, len(gamma), None, None), gamma.dtype)
        if self.pool:
            check.pooled("x", x.shape)
        return _in_nhwc(x)

    def _move_running(self, mean: Array, var: Array, count: int) -> None:
        unbiased = var * (count / max(count - 1, 1))
        for running, value in ((self.mean.value, mean), (self.var.value, unbiased)):
            running += running.dtype.type(MOMENTUM) * (value - running)


def _in_nhwc(x: Activation) -> Padded:
    """The batch in NHWC, with the border that it has."""
    return x if isinstance(x, Padded) else to_padded(x, (0, 0))
