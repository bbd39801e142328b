"""Pairs of digits as single digits, and the scores of two digits as logits of their pair."""

from __future__ import annotations

import math

from .. import _checks as check
from .. import _core
from .._checks import Array

_PLAIN = (0, 0)


def split_halves(x: Array) -> Array:
    """The left and right halves of x (n, c, h, 2·w) as samples: (2·n, c, h, w), left before right."""
    return _core.unpad_nhwc(_core.split_halves(check.even_width("x", x), _PLAIN), _PLAIN)


def join_halves(halves: Array) -> Array:
    """The inverse of `split_halves`, and its gradient: (2·n, c, h, w) -> (n, c, h, 2·w)."""
    halves = check.images("halves", halves)
    check.even_samples("halves", halves.shape)
    return _core.join_halves(_core.pad_nhwc(halves, _PLAIN), _PLAIN)


def pair_logits(scores: Array) -> Array:
    """Logits of pairs from the scores of their digits: z[i, k·a + b] = s[2·i, a] + s[2·i + 1, b].

    As log softmax(z)[k·a + b] is log softmax(left)[a] + log softmax(right)[b], the digits of a pair are
    independent given the image, and the cross-entropy of z is the sum of theirs.

    Parameters
    ----------
    scores : (2·n, k), in the order of `split_halves`

    Returns
    -------
    z : (n, k·k)
    """
    scores = check.array("scores", scores, None, 2)
    if len(scores) % 2 or scores.shape[1] == 0:
        raise check.fail(
            "scores", check.describe(scores), "an even number of rows and some columns"
        )
    return _core.pair_logits(scores)


def pair_logits_backward(dz: Array) -> Array:
    """Gradient (2·n, k) of `pair_logits` for dz (n, k·k): row sums and column sums."""
    dz = check.array("dz", dz, None, 2)
    k = math.isqrt(dz.shape[1])
    if k == 0 or k * k != dz.shape[1]:
        raise check.fail("dz", check.describe(dz), "a square number of columns")
    return _core.pair_logits_backward(dz, k)
