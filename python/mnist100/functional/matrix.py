"""Products of matrices and the fully connected layer."""

from __future__ import annotations

import numpy as np

from .. import _checks as check
from .. import _core
from .._checks import Array


def gemm(
    a: Array,
    b: Array,
    *,
    trans_a: bool = False,
    trans_b: bool = False,
    alpha: float = 1.0,
    beta: float = 0.0,
    out: Array | None = None,
) -> Array:
    """alpha · op(a) op(b) + beta · out.

    Parameters
    ----------
    a, b : (m, k) and (k, n), or transposed where `trans_a`, `trans_b` say so
    out : (m, n), written to and returned; must not overlap `a` or `b`. Needed when beta is not 0;
        beta 0 never reads it.
    """
    a = check.array("a", a, None, 2)
    b = check.array("b", b, a.dtype, 2)
    m, k = a.shape[::-1] if trans_a else a.shape
    k_b, n = b.shape[::-1] if trans_b else b.shape
    if k != k_b:
        raise check.fail("b", f"op(b) of shape {(k_b, n)}", f"{k} rows to match op(a) {(m, k)}")
    alpha, beta = check.real("alpha", alpha), check.real("beta", beta)
    if out is None:
        if beta != 0:
            raise check.fail("out", None, f"a ({m}, {n}) array, since beta is {beta:g}")
        out = np.empty((m, n), a.dtype)
    out = check.in_place("out", out, (m, n), a.dtype)
    check.apart("out", out, a=a, b=b)
    _core.gemm(a, b, bool(trans_a), bool(trans_b), alpha, beta, out)
    return out


def linear(x: Array, w: Array, b: Array | None = None) -> Array:
    """x wᵀ + b for x (n, in), w (out, in), b (out): (n, out)."""
    x, w = _weights(x, w)
    if b is not None:
        b = check.shaped("b", b, w.shape[:1], x.dtype)
    return _core.linear(x, w, b)


def linear_backward(
    dy: Array, x: Array, w: Array, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `linear` for dy (n, out); dx is None unless `need_dx`."""
    x, w = _weights(x, w)
    dy = check.shaped("dy", dy, (len(x), len(w)), x.dtype)
    return _core.linear_backward(dy, x, w, need_dx)


def linear_block(x: Array, w: Array, b: Array, p: float, *, seed: int, step: int) -> Array:
    """dropout(relu(linear(x, w, b)), p), fused, with the elements that `dropout` drops: (n, out).

    p = 0 draws nothing. A NaN passes ReLU, and is dropped like any other value.
    """
    x, w = _weights(x, w)
    b = check.shaped("b", b, w.shape[:1], x.dtype)
    return _core.linear_block(
        x, w, b, check.probability("p", p), check.word("seed", seed), check.word("step", step)
    )


def linear_block_backward(
    dy: Array, y: Array, x: Array, w: Array, p: float, *, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """Gradients (dx, dw, db) of `linear_block` for dy (n, out); dx is None unless `need_dx`.

    No mask is kept: ReLU and dropout let through what is above 0 in y, which `linear_block` returned.
    """
    x, w = _weights(x, w)
    y = check.shaped("y", y, (len(x), len(w)), x.dtype)
    dy = check.shaped("dy", dy, (len(x), len(w)), x.dtype)
    return _core.linear_block_backward(dy, y, x, w, check.probability("p", p), need_dx)


def _weights(x: Array, w: Array) -> tuple[Array, Array]:
    x = check.array("x", x, None, 2)
    w = check.array("w", w, x.dtype, 2)
    if w.shape[1] != x.shape[1]:
        raise check.fail("w", check.describe(w), f"(out, {x.shape[1]}) to match x {x.shape}")
    return x, w
