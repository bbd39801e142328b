"""Training with PyTorch: the same recipe, loss, batches and start as with our kernels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import mnist100
from mnist100 import _core, models
from mnist100.cli.main import main
from mnist100.reference.torch_trainer import TorchTrainer
from mnist100.training import EpochReport, backends
from mnist100.training import inputs as training_inputs
from mnist100.training.checkpoint import load_checkpoint
from runs import easy_splits, tiny_recipe, traced, write_idx
from support import assert_same, assert_sum_close, draws, run_python


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The backend gives PyTorch as many threads as our kernels have: one here, and one afterwards."""
    mnist100.set_num_threads(1)
    yield
    torch.set_num_threads(1)


@pytest.mark.parametrize("model", models.ARCHITECTURES)
def test_an_epoch_agrees(model: str) -> None:
    """The whole recipe without dropout: augmentation, L2, Adam and averaged weights."""
    recipe = tiny_recipe(model=model, dropout=0.0, reg_lambda=0.1)
    ours, our_result, our_trace = traced(recipe)
    theirs, their_result, their_trace = traced(recipe, backend=backends.Torch())
    assert len(our_trace) == 3
    # Adam divides a gradient by its own size, which magnifies rounding where gradients are tiny.
    # PyTorch's batch normalisation of channels_last images is good to 6e-5 (ours, and its own of NCHW, to
    # 6e-6), so that some ReLUs and pools decide otherwise, and some weights make a whole step otherwise.
    normalises = model == "siamese"
    np.testing.assert_allclose(their_trace, our_trace, rtol=2e-3 if normalises else 1e-4)
    for one, other in zip(theirs.parameters(), ours.parameters(), strict=True):
        difference = np.abs(one.value - other.value)
        assert difference.max() < (6e-3 if normalises else 1e-3)
        assert difference.mean() < 3e-4
    for buffer, other_buffer in zip(theirs.net.buffers, ours.net.buffers, strict=True):
        # Taken anew under the weights: of sums of up to 288 products with weights that differ as above.
        scale = np.abs(other_buffer.value).max()
        assert np.abs(buffer.value - other_buffer.value).max() < 0.03 * scale
    assert their_result.dev_accuracy == pytest.approx(our_result.dev_accuracy, abs=0.1)


def test_l2_pulls_at_weights_and_at_no_bias() -> None:
    model = models.mlp(dropout=0.0)
    for parameter in model.parameters():
        parameter.value[...] = 0.5 if parameter.name.endswith("_b") else 0.0
    weight = model.parameters()[0].value
    weight[:, :] = 0.25
    trainer = TorchTrainer(model, "cpu", reg_lambda=3.0, weight_decay=0.0, ema_decay=0.0, seed=0)
    before = trainer.tensors()
    loss = trainer.step(np.zeros((6, 1, 28, 56), np.float32), np.arange(6), 0.0)
    assert loss == pytest.approx(np.log(100) + 3.0 / 12 * 0.25**2 * weight.size, rel=1e-5)
    after = trainer.tensors()
    # m = (1 - β₁)·g; of the first weights the loss itself has no gradient, all inputs being 0.
    assert np.allclose(after["adam_m.fc1_W"], 0.1 * 3.0 / 6 * 0.25, rtol=1e-5)
    assert np.allclose(after["adam_m.fc1_b"], 0.0)
    assert_same(after["weights.fc1_W"], before["weights.fc1_W"])  # at a rate of 0


def test_decoupled_decay_takes_its_part_of_weights_and_of_no_bias() -> None:
    x, labels = np.zeros((6, 1, 28, 56), np.float32), np.arange(6)
    after = []
    for weight_decay in (0.0, 5.0):
        model = models.mlp(dropout=0.0)
        model.parameters()[1].value[...] = 0.5
        trainer = TorchTrainer(
            model, "cpu", reg_lambda=0.0, weight_decay=weight_decay, ema_decay=0.0, seed=0
        )
        before = trainer.tensors()["weights.fc1_W"]
        trainer.step(x, labels, 0.1)
        after.append(trainer.tensors())
    # The inputs being 0, the first weights have no gradient.
    assert_same(after[0]["weights.fc1_W"], before)
    np.testing.assert_allclose(after[1]["weights.fc1_W"], 0.5 * before, rtol=1e-6)
    for bias in ("fc1_b", "fc2_b", "fc3_b"):
        assert_same(after[0][f"weights.{bias}"], after[1][f"weights.{bias}"])


def test_dropout_is_drawn_anew_in_every_step_and_for_every_seed() -> None:
    x, labels = draws(32, 1, 28, 56), np.arange(32)
    losses = []
    for seed in (1, 1, 2):
        trainer = TorchTrainer(
            models.cnn(dropout=0.4),
            "cpu",
            reg_lambda=0.0,
            weight_decay=0.0,
            ema_decay=0.0,
            seed=seed,
        )
        losses.append([trainer.step(x, labels, 0.0) for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0][0] != losses[0][1]
    assert losses[0][0] != losses[2][0]


@pytest.mark.parametrize("make", [models.cnn, models.siamese])
def test_the_trainer_goes_on_from_its_tensors(make: Callable[..., models.Model]) -> None:
    x, labels = draws(16, 1, 28, 56), np.arange(16)

    def trainer() -> TorchTrainer:
        return TorchTrainer(
            make(dropout=0.4), "cpu", reg_lambda=0.1, weight_decay=0.2, ema_decay=0.9, seed=5
        )

    whole, first, second = trainer(), trainer(), trainer()
    for _ in range(4):
        whole.step(x, labels, 1e-3)
    for _ in range(2):
        first.step(x, labels, 1e-3)
    second.restore(first.tensors(), 2)
    for _ in range(2):
        second.step(x, labels, 1e-3)
    expected = whole.tensors()
    assert second.tensors().keys() == expected.keys()
    for name, value in second.tensors().items():
        assert_same(value, expected[name])


def test_the_run_keeps_a_copy_of_the_best_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the first epoch was the best, what later ones do to the weights must not reach the file."""
    first, _, _ = traced(tiny_recipe(ema_decay=0.0), backend=backends.Torch())
    measured = iter([0.5, 0.9, 0.5, 0.4, 0.5, 0.3])  # on training and dev pairs, in turn
    monkeypatch.setattr(training_inputs, "accuracy", lambda *_: next(measured))
    recipe = tiny_recipe(ema_decay=0.0, epochs=3)
    model, result, _ = traced(recipe, backend=backends.Torch(), out=tmp_path)
    assert (len(result.history), result.best_epoch) == (3, 1)
    for kept in (model, mnist100.load_model(tmp_path)):
        for one, other in zip(kept.parameters(), first.parameters(), strict=True):
            assert_same(one.value, other.value)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    recipe = tiny_recipe(model="mlp", epochs=2)
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    whole, _, trace = traced(recipe, backend=backends.Torch(), out=folders[0])

    def stop(report: EpochReport) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        traced(recipe, backend=backends.Torch(), out=folders[1], on_epoch=stop)
    resume = load_checkpoint(folders[1] / "last.npz")
    model, result, rest = traced(recipe, backend=backends.Torch(), out=folders[1], resume=resume)
    assert len(result.history) == 2
    assert rest == trace[3:]
    for one, other in zip(model.parameters(), whole.parameters(), strict=True):
        assert_same(one.value, other.value)


def test_the_file_loads_without_us(tmp_path: Path) -> None:
    recipe = tiny_recipe()
    model, _, _ = traced(recipe, backend=backends.Torch(), out=tmp_path)
    contents = torch.load(tmp_path / "model.pt", weights_only=True)
    assert sorted(contents) == ["config", "mean", "state_dict", "std"]
    assert contents["config"]["recipe"] == recipe.as_dict()
    assert contents["config"]["architecture"] == "cnn"
    assert contents["config"]["clip"] == 3.0
    assert contents["mean"].shape == contents["std"].shape == (1568, 1)
    assert sum(value.numel() for value in contents["state_dict"].values()) == 833_572
    assert (tmp_path / "history.csv").exists()
    assert not (tmp_path / "model.npz").exists()
    pairs = models.raw_pixels(np.zeros((2, 28, 56), np.uint8))
    assert_sum_close(
        mnist100.load_model(tmp_path).predict_proba(pairs), model.predict_proba(pairs), 1
    )


def test_a_model_moves_between_backends() -> None:
    model = models.cnn(seed=4)
    x = draws(5, 1, 28, 56)
    expected = model(x)
    backends.Torch().place(model)
    assert_sum_close(model(x), expected, 3136)
    model.parameters()[-1].value[...] += 1  # it follows the weights
    assert_sum_close(model(x), expected + 1, 3136)
    backends.Numpy().place(model)
    assert_sum_close(model(x), expected + 1, 3136)
    backends.Torch().place(model)
    backends.Native().place(model)
    ours = model(x)
    model.parameters()[-1].value[...] -= 1
    assert_same(model(x), expected)
    assert_sum_close(ours, expected + 1, 1)


def test_numpy_has_no_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["train"], ["evaluate", "missing"]):
        assert main([*command, "--backend", "numpy", "--device", "cuda"]) == 2
        assert capsys.readouterr().err == (
            "mnist100: error: argument --device: got cuda with --backend numpy, wants cpu\n"
        )


@pytest.mark.parametrize(
    ("built", "message"),
    [
        (
            ["baseline"],
            "was built without CUDA; build it with: pip install . -C cmake.define.MNIST",
        ),
        (["baseline", "cuda"], "no CUDA GPU was found, or its driver is too old"),
    ],
)
def test_a_missing_gpu_is_an_error(
    built: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_core, "isas", lambda: built)
    monkeypatch.setattr(_core, "supported_isas", lambda: ["baseline"])
    assert main(["train", "--device", "cuda"]) == 1
    assert message in capsys.readouterr().err


def test_a_missing_cuda_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match="sees no CUDA device here; use --device cpu"):
        backends.choose("torch", "cuda")


def test_without_pytorch_one_line_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    for arguments in (["train", "--backend", "torch"], ["evaluate", str(tmp_path)]):
        result = run_python(
            "import sys; sys.modules['torch'] = None\n"
            "from mnist100.cli.main import main\n"
            f"sys.exit(main({arguments!r}))"
        )
        assert result.returncode == 1
        assert result.stderr == (
            'mnist100: error: PyTorch is not installed; run pip install "mnist100[torch]"\n'
        )


def test_pytorch_is_imported_only_when_it_is_used() -> None:
    result = run_python(
        "import sys, mnist100.export, mnist100.cli.train, mnist100.cli.evaluate, mnist100.training\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("model", ["mlp", "siamese"])
def test_commands_take_every_backend(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    write_idx(Path(data), easy_splits())
    options = ["--model", model, "--epochs", "1", "--threads", "1", "--json", "--backend"]
    assert main(["train", "--dataset", data, "--out", run, *options, "torch"]) == 0
    assert 'backend = "torch"' in (tmp_path / "run" / "config.toml").read_text()
    measured = [json.loads(capsys.readouterr().out)["correct"]]
    for backend in ("native", "numpy"):
        assert main(["evaluate", run, "--json", "--backend", backend]) == 0
        measured.append(json.loads(capsys.readouterr().out)["correct"])
    assert max(measured) - min(measured) <= 1  # where two logits are as good as equal
