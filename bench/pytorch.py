"""The workloads on PyTorch, in each of the modes that may be its fastest.

float32 at the default precision, fused Adam, gradients set to None, no DataLoader. Layouts are
changed outside what is timed.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as tf

import inputs
from kernels import (
    CHECKED_STEPS,
    LEARNING_RATE,
    REG_LAMBDA,
    bare_steps,
    epoch,
    gemm_operands,
)
from mnist100 import export
from workloads import Array, Builder, Builders, Subject


class Mode(NamedTuple):
    """How PyTorch is asked to run a network."""

    channels_last: bool
    compiled: bool

    def laid_out(self, x: Any) -> Any:
        """Images, or a module's weights, in the mode's layout."""
        return x.to(memory_format=torch.channels_last) if self.channels_last else x

    def prepared(self, function: Any, **options: Any) -> Any:
        """The function, compiled if the mode is."""
        return torch.compile(function, options=options or None) if self.compiled else function


LAYOUTS = {"eager": Mode(False, False), "channels_last": Mode(True, False)}
MODES = {**LAYOUTS, "compile": Mode(False, True), "compile channels_last": Mode(True, True)}


def builders() -> Builders:
    """How each operation is built, by mode."""

    def in_modes(build: Any, modes: dict[str, Mode]) -> dict[str, Builder]:
        return {name: partial(build, mode) for name, mode in modes.items()}

    return {
        "gemm": {"eager": _gemm},
        "im2col": {"eager": _im2col},
        "col2im": {"eager": _col2im},
        "max_pool2d": in_modes(_max_pool2d, LAYOUTS),
        "conv": in_modes(_conv, LAYOUTS),
        "conv_backward": in_modes(_conv_backward, LAYOUTS),
        "conv2d": in_modes(_conv2d, LAYOUTS),
        "conv2d_backward": in_modes(_conv2d_backward, LAYOUTS),
        "block": in_modes(_block, LAYOUTS),
        "block_backward": in_modes(_block_backward, LAYOUTS),
        "linear": {"eager": _linear},
        "linear_backward": {"eager": _linear_backward},
        "adam": {"fused": _adam},
        "step": in_modes(_step, MODES),
        "inference": in_modes(_inference, MODES),
        # As `mnist100 train --backend torch` does it.
        "epoch": {
            "channels_last": partial(epoch, "torch"),
            "channels_last, bare steps": partial(bare_steps, "torch"),
        },
    }


def _tensor(*shape: int, seed: int = inputs.SEED) -> torch.Tensor:
    return torch.from_numpy(inputs.draws(*shape, seed=seed))


def _array(tensor: torch.Tensor) -> Array:
    found: Array = tensor.detach().contiguous().numpy()
    return found


def _subject(run: Callable[[], Any], *names: str) -> Subject:
    """A subject whose run returns a tensor, or as many as there are names."""

    def outputs() -> dict[str, Array]:
        found = run()
        tensors = found if isinstance(found, tuple) else (found,)
        return {name: _array(one) for name, one in zip(names, tensors, strict=True)}

    return Subject(run, outputs)


def _gemm(m: int, n: int, k: int, trans_a: bool, trans_b: bool) -> Subject:
    a, b = (torch.from_numpy(one) for one in gemm_operands(m, n, k, trans_a, trans_b))
    left, right = a.T if trans_a else a, b.T if trans_b else b
    out = torch.empty(m, n)
    return _subject(lambda: torch.mm(left, right, out=out), "y")


def _im2col(*x_shape: int) -> Subject:
    """`unfold`: the same numbers as our im2col, as (n, c·kh·kw, oh·ow)."""
    x = _tensor(*x_shape)

    def outputs() -> dict[str, Array]:
        columns = tf.unfold(x, 3, padding=1).transpose(1, 2)
        return {"y": _array(columns.reshape(-1, columns.shape[2]))}

    return Subject(lambda: tf.unfold(x, 3, padding=1), outputs)


def _col2im(n: int, c: int, h: int, w: int) -> Subject:
    columns = _tensor(n * h * w, 9 * c).reshape(n, h * w, 9 * c).transpose(1, 2).contiguous()
    return _subject(lambda: tf.fold(columns, (h, w), 3, padding=1), "y")


def _max_pool2d(mode: Mode, n: int, c: int, h: int, w: int) -> Subject:
    x = mode.laid_out(_tensor(n, c, h, w)).requires_grad_()
    dy = mode.laid_out(_tensor(n, c, h // 2, w // 2))

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        y = tf.max_pool2d(x, 2)
        return y, *torch.autograd.grad(y, x, dy)

    return _subject(run, "y", "dx")


def _conv_tensors(mode: Mode, n: int, c: int, h: int, w: int) -> tuple[torch.Tensor, ...]:
    return (
        mode.laid_out(_tensor(n, c, h, w)),
        mode.laid_out(_tensor(c, c, 3, 3, seed=1)),
        _tensor(c, seed=2),
    )


def _conv(mode: Mode, *sizes: int) -> Subject:
    x, w, b = (one.requires_grad_() for one in _conv_tensors(mode, *sizes))
    return _subject(lambda: torch.relu(tf.conv2d(x, w, b, padding=1)), "y")


def _conv_backward(mode: Mode, *sizes: int) -> Subject:
    return _conv_gradients(mode, sizes, relu=True)


def _conv2d(mode: Mode, *sizes: int) -> Subject:
    x, w, b = _conv_tensors(mode, *sizes)
    return _subject(lambda: tf.conv2d(x, w, b, padding=1), "y")


def _conv2d_backward(mode: Mode, *sizes: int) -> Subject:
    return _conv_gradients(mode, sizes, relu=False)


def _conv_gradients(mode: Mode, sizes: tuple[int, ...], *, relu: bool) -> Subject:
    x, w, b = (one.requires_grad_() for one in _conv_tensors(mode, *sizes))
    y = tf.conv2d(x, w, b, padding=1)
    y = torch.relu(y) if relu else y
    dy = mode.laid_out(_tensor(*sizes, seed=3))
    return _subject(
        lambda: torch.autograd.grad(y, (x, w, b), dy, retain_graph=True), "dx", "dw", "db"
    )


def _blocks(mode: Mode, where: str) -> tuple[torch.Tensor, Callable[[torch.Tensor], Any], Any]:
    """The input of a conv block, the block, and its convolution."""
    network: Any = mode.laid_out(export.to_torch(inputs.network(dropout=0.0)))
    x = mode.laid_out(torch.from_numpy(inputs.batches()[0][0]))

    def first(images: torch.Tensor) -> torch.Tensor:
        return tf.max_pool2d(torch.relu(network.conv1(images)), 2)

    def second(images: torch.Tensor) -> torch.Tensor:
        return tf.max_pool2d(torch.relu(network.conv2(images)), 2)

    if where == "conv1":
        return x, first, network.conv1
    return first(x).detach(), second, network.conv2


def _block(mode: Mode, where: str) -> Subject:
    x, block, _ = _blocks(mode, where)
    x.requires_grad_(where != "conv1")  # in training: what backward needs is kept
    return _subject(lambda: block(x), "y")


def _block_backward(mode: Mode, where: str) -> Subject:
    x, block, conv = _blocks(mode, where)
    wanted, names = [conv.weight, conv.bias], ["dw", "db"]
    if where != "conv1":
        wanted.insert(0, x.requires_grad_())
        names.insert(0, "dx")
    y = block(x)
    dy = mode.laid_out(_tensor(*y.shape, seed=4))
    return _subject(lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True), *names)


def _linear(n: int, size: int, out: int) -> Subject:
    x, w, b = _tensor(n, size), _tensor(out, size), _tensor(out)
    return _subject(lambda: tf.linear(x, w, b), "y")


def _linear_backward(n: int, size: int, out: int) -> Subject:
    x, w, b = (one.requires_grad_() for one in (_tensor(n, size), _tensor(out, size), _tensor(out)))
    y, dy = tf.linear(x, w, b), _tensor(n, out)
    return _subject(
        lambda: torch.autograd.grad(y, (x, w, b), dy, retain_graph=True), "dx", "dw", "db"
    )


def _adam(*shape: int) -> Subject:
    param = torch.nn.Parameter(_tensor(*shape))
    param.grad = _tensor(*shape, seed=5)
    optimizer = torch.optim.Adam([param], lr=LEARNING_RATE, fused=True)

    def run() -> torch.Tensor:
        optimizer.step()
        return param

    return _subject(run, "param")


def _stepper(mode: Mode, dropout: float) -> tuple[torch.nn.Module, Callable[[], float]]:
    network: torch.nn.Module = mode.laid_out(export.to_torch(inputs.network(dropout=dropout)))
    network.train()
    # L2 in the gradient of the weights alone: ours is λ/(2·B)·ΣW².
    weights = [p for name, p in network.named_parameters() if name.endswith("weight")]
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    decay = REG_LAMBDA / len(inputs.batches()[0][0])
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": decay},
        {"params": biases},
    ]
    optimizer = torch.optim.Adam(groups, lr=LEARNING_RATE, fused=True)
    data = itertools.cycle(
        [
            (mode.laid_out(torch.from_numpy(x)), torch.from_numpy(labels))
            for x, labels in inputs.batches()
        ]
    )

    def forward(x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return tf.cross_entropy(network(x), labels)

    loss_of = mode.prepared(forward)

    def run() -> float:
        loss = loss_of(*next(data))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return network, run


def _step(mode: Mode, n: int) -> Subject:
    """Forward, loss, backward and Adam, with dropout; compared without dropout."""

    def outputs() -> dict[str, Array]:
        network, step = _stepper(mode, 0.0)
        losses = np.array([step() for _ in range(CHECKED_STEPS)])
        named = {name: _array(p) for name, p in network.named_parameters()}
        return {
            "losses": losses,
            **{export.our_name(name): p.reshape(len(p), -1) for name, p in named.items()},
        }

    return Subject(_stepper(mode, 0.4)[1], outputs)


def _inference(mode: Mode, n: int) -> Subject:
    """Compiled with the weights folded in as constants, its fastest setting."""
    network = mode.laid_out(export.to_torch(inputs.network(dropout=0.4))).eval()
    function = mode.prepared(network, freezing=True)
    x = mode.laid_out(torch.from_numpy(inputs.batches()[0][0][:n].copy()))

    def run() -> torch.Tensor:
        with torch.inference_mode():
            logits: torch.Tensor = function(x)
        return logits

    return _subject(run, "logits")
