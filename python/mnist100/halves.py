"""The ends of a network that reads both digits of a pair with one set of weights."""

from __future__ import annotations

from . import _checks as check
from . import _core
from . import functional as F  # noqa: N812
from ._checks import Array, IntOrPair
from .layers import Layer
from .padded import Activation, Padded, to_nchw


class Halves(Layer):
    """The left and right half of each image as two samples: (n, c, h, 2·w) -> (2·n, c, h, w).

    `border` is the one of zeros around the output, what the next layer's kernel reads beyond the edge.
    """

    def __init__(self, border: IntOrPair = 1) -> None:
        self.border = check.pair("border", border, 0)

    def forward(self, x: Activation, step: int) -> tuple[Activation, None]:
        x = to_nchw(x)
        if self.ops is not F:  # only our kernels know the padded layout
            return self.ops.split_halves(x), None
        return Padded(_core.split_halves(check.even_width("x", x), self.border), self.border), None

    def backward(self, dy: Activation, cache: None, need_dx: bool = True) -> Array | None:
        if not need_dx:
            return None
        if isinstance(dy, Padded):
            check.even_samples("dy", dy.shape)
            return _core.join_halves(dy.data, dy.border)
        return self.ops.join_halves(check.images("dy", dy))


class PairLogits(Layer):
    """Scores of the halves to logits of the pair, (2·n, k) -> (n, k·k): z[k·a + b] = left[a] + right[b].

    p(a, b) = p(a) · p(b): softmax of the sums is the product of the softmaxes.
    """

    def forward(self, x: Activation, step: int) -> tuple[Array, None]:
        return self.ops.pair_logits(to_nchw(x)), None

    def backward(self, dy: Activation, cache: None, need_dx: bool = True) -> Array | None:
        return self.ops.pair_logits_backward(to_nchw(dy)) if need_dx else None
