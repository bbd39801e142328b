"""One good call of every function, to spoil an argument at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mnist100 import functional as F  # noqa: N812
from support import draws


def valid() -> dict[str, tuple[Callable[..., object], dict[str, Any]]]:
    """One good call of every function."""
    x, w, b = draws(2, 3, 6, 6), draws(4, 3, 3, 3), draws(4)
    pooled, argmax = F.max_pool2d(x, 2)
    y, block = F.conv_block(x, w, b)
    flat, dense = draws(5, 7), draws(3, 7)
    step = {name: draws(5, 7, seed=i) ** 2 for i, name in enumerate(("param", "grad", "m", "v"))}
    cols = F.im2col(x, 3)
    norm = {name: draws(3, seed=i) ** 2 for i, name in enumerate(("mean", "var", "gamma", "beta"))}
    return {
        "gemm": (F.gemm, {"a": flat, "b": dense.T.copy(), "out": draws(5, 3)}),
        "im2col": (F.im2col, {"x": x, "kernel_size": 3, "stride": 1, "padding": 0}),
        "col2im": (
            F.col2im,
            {"cols": cols, "x_shape": (2, 3, 6, 6), "kernel_size": 3, "stride": 1, "padding": 0},
        ),
        "conv2d": (F.conv2d, {"x": x, "w": w, "b": b, "stride": 1, "padding": 0}),
        "conv2d_backward": (F.conv2d_backward, {"dy": draws(2, 4, 4, 4), "x": x, "w": w}),
        "max_pool2d": (F.max_pool2d, {"x": x, "kernel_size": 2, "stride": 2, "padding": 1}),
        "max_pool2d_backward": (
            F.max_pool2d_backward,
            {"dy": pooled, "argmax": argmax, "x_shape": (2, 3, 6, 6), "kernel_size": 2},
        ),
        "conv_block": (F.conv_block, {"x": x, "w": w, "b": b}),
        "conv_block_backward": (F.conv_block_backward, {"dy": y, "cache": block}),
        "batch_norm_stats": (F.batch_norm_stats, {"x": x}),
        "batch_norm_relu": (
            F.batch_norm_relu,
            {"x": x, **norm, "pool": True, "eps": 0.1},
        ),
        "batch_norm_relu_backward": (
            F.batch_norm_relu_backward,
            {"dy": pooled, "cache": F.batch_norm_relu(x, *norm.values(), pool=True)[1]},
        ),
        "split_halves": (F.split_halves, {"x": x}),
        "join_halves": (F.join_halves, {"halves": x}),
        "pair_logits": (F.pair_logits, {"scores": draws(4, 5)}),
        "pair_logits_backward": (F.pair_logits_backward, {"dz": draws(4, 9)}),
        "linear": (F.linear, {"x": flat, "w": dense, "b": draws(3)}),
        "linear_backward": (F.linear_backward, {"dy": draws(5, 3), "x": flat, "w": dense}),
        "linear_block": (
            F.linear_block,
            {"x": flat, "w": dense, "b": draws(3), "p": 0.5, "seed": 1, "step": 2},
        ),
        "linear_block_backward": (
            F.linear_block_backward,
            {"dy": draws(5, 3), "y": draws(5, 3), "x": flat, "w": dense, "p": 0.5},
        ),
        "relu": (F.relu, {"x": flat}),
        "relu_backward": (F.relu_backward, {"dy": flat, "y": flat}),
        "dropout": (F.dropout, {"x": flat, "p": 0.5, "seed": 1, "step": 2}),
        "dropout_backward": (
            F.dropout_backward,
            {"dy": flat, "mask": np.ones((5, 7), np.uint8), "p": 0.5},
        ),
        "softmax": (F.softmax, {"x": flat}),
        "softmax_cross_entropy": (
            F.softmax_cross_entropy,
            {"logits": flat, "labels": np.arange(5)},
        ),
        "adam_step": (F.adam_step, {**step, "step": 1, "lr": 0.1}),
        "sgd_step": (
            F.sgd_step,
            {"param": step["param"], "grad": step["grad"], "velocity": step["m"], "lr": 0.1},
        ),
        "ema_update": (
            F.ema_update,
            {"average": step["m"], "param": step["param"], "decay": 0.9},
        ),
        "sum_squares": (F.sum_squares, {"x": flat}),
    }


def call_with(name: str, **changes: object) -> object:
    function, arguments = valid()[name]
    return function(**(arguments | changes))


def refused(name: str, argument: str, value: object, error: type[Exception], *words: str) -> None:
    """`value` is refused by a sentence that names the argument, what it got and what it wants."""
    with pytest.raises(error) as caught:
        call_with(name, **{argument: value})
    message = str(caught.value)
    assert message.startswith(f"{argument}: got "), message
    assert ", wants " in message
    assert "_core" not in message
    assert len(message) < 300
    for word in words:
        assert word in message
