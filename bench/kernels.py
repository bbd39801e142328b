"""The workloads on our kernels, and the same on their readable NumPy counterparts."""

from __future__ import annotations

import itertools
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np

import inputs
from mnist100.layers import Conv2d, Layer, to_nchw, to_padded
from mnist100.models import Model
from mnist100.optim import Adam
from mnist100.training import backends
from mnist100.training.inputs import TrainingInputs
from mnist100.training.step import train_step
from mnist100.training.trainers import EpochTrainer, StepTrainer
from workloads import Array, Builders, Subject

LEARNING_RATE = 1e-3
REG_LAMBDA = 1e-4
CHECKED_STEPS = 5


def builders(library: str, ops: ModuleType) -> Builders:
    """How `library` ("mnist100" or "numpy") runs each operation, with the functions of `ops`."""

    def one(build: Any) -> dict[str, Any]:
        return {library: partial(build, ops)}

    return {
        "gemm": {library: _numpy_gemm} if library == "numpy" else one(_gemm),
        "im2col": one(_im2col),
        "col2im": one(_col2im),
        "max_pool2d": one(_max_pool2d),
        "conv": one(_conv),
        "conv_backward": one(_conv_backward),
        "conv2d": one(_conv2d),
        "conv2d_backward": one(_conv2d_backward),
        "block": one(_block),
        "block_backward": one(_block_backward),
        "linear": one(_linear),
        "linear_backward": one(_linear_backward),
        "adam": one(_adam),
        "step": one(_step),
        "inference": one(_inference),
        "epoch": {
            library: partial(epoch, "native" if library == "mnist100" else library),
            f"{library}, bare steps": partial(
                bare_steps, "native" if library == "mnist100" else library
            ),
        },
    }


def _one(run: Any, name: str = "y") -> Subject:
    """A subject whose run returns its only output."""
    return Subject(run, lambda: {name: run()})


def gemm_operands(m: int, n: int, k: int, trans_a: bool, trans_b: bool) -> tuple[Array, Array]:
    """A and B as they lie in memory."""
    return (
        inputs.draws(*((k, m) if trans_a else (m, k)), seed=1),
        inputs.draws(*((n, k) if trans_b else (k, n)), seed=2),
    )


def _gemm(ops: Any, m: int, n: int, k: int, trans_a: bool, trans_b: bool) -> Subject:
    a, b = gemm_operands(m, n, k, trans_a, trans_b)
    out = np.empty((m, n), np.float32)
    return _one(lambda: ops.gemm(a, b, trans_a=trans_a, trans_b=trans_b, out=out))


def _numpy_gemm(m: int, n: int, k: int, trans_a: bool, trans_b: bool) -> Subject:
    """NumPy's own product: the readable backend's takes a temporary for alpha."""
    a, b = gemm_operands(m, n, k, trans_a, trans_b)
    out = np.empty((m, n), np.float32)
    left, right = a.T if trans_a else a, b.T if trans_b else b
    return _one(lambda: np.matmul(left, right, out=out))


def _im2col(ops: Any, *x_shape: int) -> Subject:
    x = inputs.draws(*x_shape)
    return _one(lambda: ops.im2col(x, 3, padding=1))


def _col2im(ops: Any, n: int, c: int, h: int, w: int) -> Subject:
    cols = inputs.draws(n * h * w, 9 * c)
    return _one(lambda: ops.col2im(cols, (n, c, h, w), 3, padding=1))


def _max_pool2d(ops: Any, n: int, c: int, h: int, w: int) -> Subject:
    x, dy = inputs.draws(n, c, h, w), inputs.draws(n, c, h // 2, w // 2)

    def run() -> tuple[Array, Array]:
        y, argmax = ops.max_pool2d(x, 2)
        return y, ops.max_pool2d_backward(dy, argmax, x.shape, 2)

    return Subject(run, lambda: dict(zip(("y", "dx"), run(), strict=True)))


def _filters(c: int) -> tuple[Array, Array]:
    return inputs.draws(c, c, 3, 3, seed=1), inputs.draws(c, seed=2)


def _layer(ops: Any, n: int, c: int, h: int, w: int) -> tuple[Conv2d, Any]:
    """A layer between others of its kind, with ReLU: what it takes is laid out as they hand it on."""
    layer = Conv2d("conv", c, c, 3, padding=1, relu=True)
    for parameter, value in zip(layer.parameters, _filters(c), strict=True):
        parameter.value = value
    layer.use(ops)
    return layer, to_padded(inputs.draws(n, c, h, w), (1, 1))


def _conv(ops: Any, *sizes: int) -> Subject:
    layer, x = _layer(ops, *sizes)
    return Subject(lambda: layer.forward(x, 1), lambda: {"y": to_nchw(layer.forward(x, 1)[0])})


def _conv_backward(ops: Any, *sizes: int) -> Subject:
    layer, x = _layer(ops, *sizes)
    _, cache = layer.forward(x, 1)
    dy = to_padded(inputs.draws(*sizes, seed=3), (1, 1))

    def outputs() -> dict[str, Array]:
        dx = layer.backward(dy, cache)
        assert dx is not None
        dw, db = (parameter.grad for parameter in layer.parameters)
        return {"dx": to_nchw(dx), "dw": dw, "db": db}

    return Subject(lambda: layer.backward(dy, cache), outputs)


def _conv2d(ops: Any, n: int, c: int, h: int, w: int) -> Subject:
    x, (weight, bias) = inputs.draws(n, c, h, w), _filters(c)
    return _one(lambda: ops.conv2d(x, weight, bias, padding=1))


def _conv2d_backward(ops: Any, n: int, c: int, h: int, w: int) -> Subject:
    x, dy, (weight, _) = inputs.draws(n, c, h, w), inputs.draws(n, c, h, w, seed=3), _filters(c)
    return _gradients(lambda: ops.conv2d_backward(dy, x, weight, padding=1))


def _gradients(run: Any) -> Subject:
    return Subject(run, lambda: dict(zip(("dx", "dw", "db"), run(), strict=True)))


def _blocks(ops: Any) -> tuple[Layer, Layer]:
    layers = inputs.network(dropout=0.0).net.layers
    for layer in layers:
        layer.use(ops)
    return layers[0], layers[1]


def _block(ops: Any, where: str) -> Subject:
    """A layer in training mode; the second gets what the first hands it, whatever its layout."""
    (first, second), (x, _) = _blocks(ops), inputs.batches()[0]
    if where == "conv1":
        return Subject(lambda: first.forward(x, 1), lambda: {"y": to_nchw(first.forward(x, 1)[0])})
    between, _ = first.forward(x, 1)
    return Subject(
        lambda: second.forward(between, 1), lambda: {"y": to_nchw(second.forward(between, 1)[0])}
    )


def _block_backward(ops: Any, where: str) -> Subject:
    """As in the network: the second block's gradient comes in NCHW, the first's as the second left it."""
    (first, second), (x, _) = _blocks(ops), inputs.batches()[0]
    y, cache = first.forward(x, 1)
    layer, need_dx = first, False
    if where == "conv2":
        y, cache = second.forward(y, 1)
        layer, need_dx = second, True
    gradient: Any = inputs.draws(*to_nchw(y).shape, seed=4)
    if where == "conv1" and "reference" not in ops.__name__:
        gradient = to_padded(gradient, (1, 1))

    def outputs() -> dict[str, Array]:
        dx = layer.backward(gradient, cache, need_dx)
        found = {"dw": layer.parameters[0].grad, "db": layer.parameters[1].grad}
        return found if dx is None else {"dx": to_nchw(dx), **found}

    return Subject(lambda: layer.backward(gradient, cache, need_dx), outputs)


def _linear(ops: Any, n: int, size: int, out: int) -> Subject:
    x, w, b = inputs.draws(n, size), inputs.draws(out, size), inputs.draws(out)
    return _one(lambda: ops.linear(x, w, b))


def _linear_backward(ops: Any, n: int, size: int, out: int) -> Subject:
    dy, x, w = inputs.draws(n, out), inputs.draws(n, size), inputs.draws(out, size)
    return _gradients(lambda: ops.linear_backward(dy, x, w))


def _adam(ops: Any, *shape: int) -> Subject:
    grad, param = inputs.draws(*shape, seed=5), inputs.draws(*shape)
    m, v = np.zeros_like(grad), np.zeros_like(grad)
    steps = itertools.count(1)

    def run() -> Array:
        ops.adam_step(param, grad, m, v, step=next(steps), lr=LEARNING_RATE)
        return param

    return _one(run, "param")


def _stepper(ops: Any, dropout: float) -> tuple[Model, Adam, Any]:
    model = inputs.network(dropout=dropout)
    model.use(ops)
    adam = Adam(model.parameters(), lr=LEARNING_RATE, reg_lambda=REG_LAMBDA, ops=ops)
    data = itertools.cycle(inputs.batches())

    def run() -> float:
        x, labels = next(data)
        return train_step(model, adam, x, labels)

    return model, adam, run


def _step(ops: Any, n: int) -> Subject:
    """Forward, loss with L2, backward and Adam, with dropout; compared without dropout."""

    def outputs() -> dict[str, Array]:
        model, adam, step = _stepper(ops, 0.0)
        # PyTorch has L2 in the gradient alone.
        losses = [-adam.reg_loss(n) + step() for _ in range(CHECKED_STEPS)]
        return {"losses": np.array(losses), **_weights(model)}

    return Subject(_stepper(ops, 0.4)[2], outputs)


def _weights(model: Model) -> dict[str, Array]:
    return {p.name: p.value.reshape(len(p.value), -1) for p in model.parameters()}


def _inference(ops: Any, n: int) -> Subject:
    model = inputs.network(dropout=0.4)
    model.use(ops)
    x = inputs.batches()[0][0][:n].copy()
    return _one(lambda: model(x), "logits")


def _trainer(backend: str, pairs: int, dropout: float) -> tuple[TrainingInputs, StepTrainer]:
    recipe = inputs.recipe(dropout=dropout)
    chosen = backends.choose(backend)
    model = inputs.network(dropout=dropout)
    chosen.place(model)
    data = chosen.inputs(model, inputs.splits(pairs), recipe, inputs.SEED, 1)
    trainer = chosen.trainer(model, recipe, inputs.SEED, data)
    assert not isinstance(trainer, EpochTrainer)
    return data, trainer


def epoch(backend: str, pairs: int) -> Subject:
    """An epoch of the default recipe: pairing, shuffling, gathering, augmentation, steps, averages."""
    data, trainer = _trainer(backend, pairs, 0.4)
    epochs = itertools.count(1)

    def run() -> None:
        for x, labels in data.batches(next(epochs)):
            trainer.step(x, labels, LEARNING_RATE)

    def outputs() -> dict[str, Array]:
        fresh, untouched = _trainer(backend, pairs, 0.0)
        steps = itertools.islice(fresh.batches(1), CHECKED_STEPS)
        return {"losses": np.array([untouched.step(*batch, LEARNING_RATE) for batch in steps])}

    return Subject(run, outputs)


def bare_steps(backend: str, pairs: int) -> Subject:
    """The steps of `epoch` on batches that lie ready."""
    data, trainer = _trainer(backend, pairs, 0.4)
    ready = inputs.batches()

    def run() -> None:
        for x, labels in itertools.islice(itertools.cycle(ready), data.steps):
            trainer.step(x, labels, LEARNING_RATE)

    return Subject(run, epoch(backend, pairs).outputs)
