"""Whole networks against PyTorch, from the same weights and on the same batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

from mnist100 import functional as F  # noqa: N812
from mnist100.layers import Dropout, LinearBlock, to_nchw
from mnist100.models import ARCHITECTURES, Model
from mnist100.optim import Adam
from mnist100.training.step import train_step
from support import EPS, Array, draws, tensor

# Every unit is a chance of a tie (see CLEAR): the network with the most of them gets the smallest batch.
PLACES = ("1_1", "2_1", "2_2", "3_1", "3_2")  # of the siamese network's convolutions
BATCH = {"cnn": 16, "mlp": 16, "siamese": 4}
STEPS = 50
LR, REG = 1e-3, 0.1

# Terms of the longest sum behind an entry of each gradient: what rounds in it.
TERMS = {
    "cnn": {
        "conv1_W": 16 * 14 * 28,
        "conv1_b": 16 * 14 * 28,
        "conv2_W": 16 * 7 * 14,
        "conv2_b": 16 * 7 * 14,
        "fc1_W": 3136,
        "fc1_b": 3136,
        "fc2_W": 3136,
        "fc2_b": 3136,
    },
    "mlp": dict.fromkeys(["fc1_W", "fc1_b", "fc2_W", "fc2_b", "fc3_W", "fc3_b"], 1568),
    "siamese": {
        f"{layer}_{kind}": 2
        * 4
        * 28
        * 28  # every statistic is a sum over that many pixels at first
        for layer, kinds in [(f"conv{place}", "W") for place in PLACES]
        + [(f"bn{place}", ("gamma", "beta")) for place in PLACES]
        + [("fc1", "Wb")]
        for kind in kinds
    },
}


def torch_logits(
    architecture: str,
    parameters: Sequence[torch.Tensor],
    x: torch.Tensor,
    scales: Sequence[torch.Tensor] = (),
    buffers: Sequence[torch.Tensor] = (),
) -> torch.Tensor:
    """The network of models.py in PyTorch; `scales` multiply where its dropout layers are.

    Batch normalisation takes its statistics from the batch, or from `buffers`, means before variances.
    """
    f = torch.nn.functional
    tensors = iter(parameters)
    masks = iter(scales)
    if architecture == "siamese":
        return torch_siamese(tensors, x, scales, buffers)
    weights = zip(tensors, tensors, strict=True)
    if architecture == "cnn":
        for _ in range(2):
            x = f.max_pool2d(torch.relu(f.conv2d(x, *next(weights), padding=1)), 2)
    x = x.flatten(1)
    for _ in range(1 if architecture == "cnn" else 2):
        x = torch.relu(f.linear(x, *next(weights)))
        if scales:
            x = x * next(masks)
    return f.linear(x, *next(weights))


def torch_siamese(
    tensors: Iterator[torch.Tensor],
    x: torch.Tensor,
    scales: Sequence[torch.Tensor],
    buffers: Sequence[torch.Tensor],
) -> torch.Tensor:
    f = torch.nn.functional
    running = iter(buffers)
    x = torch.stack([x[..., :28], x[..., 28:]], dim=1).flatten(0, 1)
    for place in range(5):
        x = f.conv2d(x, next(tensors), padding=1)
        mean, var = (next(running), next(running)) if buffers else (None, None)
        gamma, beta = next(tensors), next(tensors)
        x = torch.relu(f.batch_norm(x, mean, var, gamma, beta, training=not buffers))
        x = f.max_pool2d(x, 2) if place in (0, 2, 4) else x
    x = x.flatten(1)
    scores = f.linear(x * scales[0] if scales else x, *tensors)
    return (scores[0::2, :, None] + scores[1::2, None, :]).flatten(1)


@cache
def batch(architecture: str, seed: int) -> tuple[Array, Array]:
    """Standardised pixels within the clip, and labels."""
    n = BATCH[architecture]
    labels = np.random.default_rng(seed).integers(0, 100, n)
    return draws(n, 1, 28, 56, seed=seed).clip(-3, 3), labels


# Among sixty seeds the one whose pre-activations and pooling winners stay furthest from a tie: 3.8e-5 and,
# behind batch normalisation, 5.2e-5, far above any rounding, so that no gradient takes another way than
# PyTorch's.
CLEAR = {"cnn": 59, "mlp": 59, "siamese": 41}


# The first of the four batches of a loss trace: those in whose first steps nothing comes near a tie.
FIRST = {"cnn": 0, "mlp": 0, "siamese": 12}


def build(architecture: str, dropout: float = 0.0) -> Model:
    model = ARCHITECTURES[architecture](dropout=dropout, seed=2)
    for tensor_ in model.tensors():
        if not tensor_.name.endswith("_W"):  # zero biases would hide mistakes
            tensor_.value[...] += 0.1 * np.abs(draws(*tensor_.value.shape))
    return model


def twin(model: Model) -> list[torch.Tensor]:
    """The parameters in float64, so that PyTorch's own rounding does not count."""
    return [tensor(p.value).double().requires_grad_() for p in model.parameters()]


def running(model: Model) -> list[torch.Tensor]:
    return [tensor(b.value).double() for b in model.net.buffers]


def scales_of(model: Model, step: int) -> list[torch.Tensor]:
    """What our own dropout multiplies by in `step`."""
    n = BATCH[model.architecture]
    drawn = [
        (layer.p, layer.dropout_seed, (n, layer.bias.value.size))
        if isinstance(layer, LinearBlock)
        else (layer.p, layer.seed, (2 * n, 576))
        for layer in model.net.layers
        if isinstance(layer, LinearBlock | Dropout)
    ]
    assert len(drawn) == {"cnn": 1, "mlp": 2, "siamese": 1}[model.architecture]
    return [
        tensor(F.dropout(np.ones(shape, np.float32), p, seed=seed, step=step)[0])
        for p, seed, shape in drawn
    ]


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_logits_and_gradients(variant: str, architecture: str, dropout: float) -> None:
    model = build(architecture, dropout)
    x, labels = batch(architecture, CLEAR[architecture])
    logits, caches = model.net.forward(x, 7)
    logits = to_nchw(logits)
    loss, dlogits = F.softmax_cross_entropy(logits, labels)
    model.net.backward(dlogits, caches, need_dx=False)

    theirs = twin(model)
    scales = [s.double() for s in scales_of(model, 7)] if dropout else []
    expected = torch_logits(architecture, theirs, tensor(x).double(), scales)
    np.testing.assert_allclose(logits, expected.detach().numpy(), rtol=0, atol=2e-5)
    expected_loss = torch.nn.functional.cross_entropy(expected, tensor(labels))
    assert loss == pytest.approx(expected_loss.item(), rel=1e-6)
    wanted = torch.autograd.grad(expected_loss, theirs)
    for p, g in zip(model.parameters(), wanted, strict=True):
        # Roundings of random sign grow with the root of their number; four deviations, against the
        # tensor's own scale.
        atol = 4 * EPS * TERMS[architecture][p.name] ** 0.5 * float(g.abs().max())
        np.testing.assert_allclose(p.grad, g.numpy(), rtol=0, atol=atol, err_msg=p.name)


def test_evaluation_mode(variant: str) -> None:
    for architecture in ARCHITECTURES:
        model = build(architecture, 0.4)
        x, _ = batch(architecture, CLEAR[architecture])
        expected = torch_logits(
            architecture, twin(model), tensor(x).double(), buffers=running(model)
        ).detach()
        np.testing.assert_allclose(model(x), expected.numpy(), rtol=0, atol=2e-5)


@cache
def torch_trace(architecture: str, dropout: float) -> list[float]:
    """Losses of STEPS steps of torch.optim.Adam with the origin's L2 term, in float64."""
    model = build(architecture, dropout)
    theirs = twin(model)
    n = BATCH[architecture]
    pairs = list(zip(model.parameters(), theirs, strict=True))
    weights = [t for p, t in pairs if p.decay]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": REG / n},
        {"params": [t for p, t in pairs if not p.decay]},
    ]
    optimizer = torch.optim.Adam(groups, lr=LR)
    losses = []
    for step in range(1, STEPS + 1):
        x, labels = (tensor(a) for a in batch(architecture, FIRST[architecture] + step % 4))
        scales = [s.double() for s in scales_of(model, step)] if dropout else []
        logits = torch_logits(architecture, theirs, x.double(), scales)
        loss = torch.nn.functional.cross_entropy(logits, labels)
        squares = torch.stack([(w.detach() ** 2).sum() for w in weights]).sum()
        losses.append(loss.item() + REG / (2 * n) * squares.item())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    return losses


@pytest.mark.parametrize("dropout", [0.0, 0.4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_trace(variant: str, architecture: str, dropout: float) -> None:
    model = build(architecture, dropout)
    optimizer = Adam(model.parameters(), lr=LR, reg_lambda=REG)
    first = FIRST[architecture]
    losses = [
        train_step(model, optimizer, *batch(architecture, first + s % 4))
        for s in range(1, STEPS + 1)
    ]
    expected = torch_trace(architecture, dropout)
    assert losses[-1] < 0.6 * losses[0]
    np.testing.assert_allclose(losses[:10], expected[:10], rtol=1e-4)
    # Sooner or later a pre-activation lies within rounding of zero, and Adam makes a full step of a
    # gradient that one side has and the other has not. PyTorch's own float32 and float64 traces come to
    # differ by up to 0.6 % in this way; without such an event, by 3e-7.
    np.testing.assert_allclose(losses, expected, rtol=2e-2)
