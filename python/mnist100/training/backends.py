"""The backends that a run can compute with, each chosen once by name."""

from __future__ import annotations

from pathlib import Path

from threadpoolctl import threadpool_limits

from mnist100 import export, functional
from mnist100._config import config
from mnist100.data import Splits
from mnist100.device import DeviceNet, check_device
from mnist100.layers import Sequential
from mnist100.modelfile import MODEL_NAME, TORCH_MODEL_NAME, save_model
from mnist100.models import Model
from mnist100.training.device import DeviceInputs, DeviceTrainer
from mnist100.training.inputs import TrainingInputs
from mnist100.training.recipes import Recipe
from mnist100.training.trainers import EpochTrainer, KernelTrainer, StepTrainer

DEVICES = ("cpu", "cuda")


class Native:
    """Our kernels."""

    name = "native"
    device = "cpu"
    model_file = MODEL_NAME

    def place(self, model: Model) -> None:
        """Let a model compute with this backend from now on."""
        model.net = Sequential(model.net.layers)
        model.use(functional)

    def check(self, recipe: Recipe) -> None:
        """Make sure that a recipe can be trained.

        Raises
        ------
        ValueError
            If it wants a precision that this backend has not.
        """
        if recipe.precision != "fp32":
            raise ValueError(
                f"precision: got {recipe.precision} with the {self.name} backend on {self.device}, wants fp32"
            )

    def inputs(
        self, model: Model, splits: Splits, recipe: Recipe, seed: int, repeats: int
    ) -> TrainingInputs:
        """Return the data of a run; `model` has been placed.

        Raises
        ------
        ValueError
            As `check`.
        """
        self.check(recipe)
        return TrainingInputs(splits, recipe, seed, repeats, model.ops)

    def trainer(
        self, model: Model, recipe: Recipe, seed: int, inputs: TrainingInputs
    ) -> StepTrainer | EpochTrainer:
        """Return what takes the steps of a run; `model` has been placed, `inputs` are of this backend."""
        return KernelTrainer(model, recipe)

    def save(self, model: Model, path: Path) -> None:
        """Write the model file of this backend atomically."""
        save_model(model, path)


class Cuda(Native):
    """Our kernels on a GPU.

    Raises
    ------
    RuntimeError
        If the package was built without CUDA, or finds no GPU.
    """

    device = "cuda"

    def __init__(self) -> None:
        check_device()

    def place(self, model: Model) -> None:
        """Let a model compute on the GPU from now on."""
        super().place(model)
        model.net = DeviceNet(model.net.layers)

    def check(self, recipe: Recipe) -> None:
        """Accept every recipe."""

    def inputs(
        self, model: Model, splits: Splits, recipe: Recipe, seed: int, repeats: int
    ) -> DeviceInputs:
        """Return the data of a run, in the GPU's memory."""
        return DeviceInputs(model, splits, recipe, seed, repeats)

    def trainer(
        self, model: Model, recipe: Recipe, seed: int, inputs: TrainingInputs
    ) -> EpochTrainer:
        """Return what takes the steps of a run on the GPU."""
        assert isinstance(inputs, DeviceInputs)
        return DeviceTrainer(model, recipe, inputs)


class Numpy(Native):
    """The readable functions of `mnist100.reference.numpy_backend`."""

    name = "numpy"

    def __init__(self) -> None:
        # NumPy's products run on threads of their own: as many as our kernels would have.
        threadpool_limits(limits=config()["threads"], user_api="blas")

    def place(self, model: Model) -> None:
        """Let a model compute with NumPy from now on."""
        from mnist100.reference import numpy_backend

        super().place(model)
        model.use(numpy_backend)


class Torch(Native):
    """PyTorch, by `mnist100.reference.torch_trainer`.

    Raises
    ------
    RuntimeError
        If PyTorch is not installed (the message says how to install it), or sees no such device.
    """

    name = "torch"
    model_file = TORCH_MODEL_NAME

    def __init__(self, device: str = "cpu") -> None:
        self._torch = export.torch_module("torch_trainer")
        self.device = self._torch.usable_device(device)

    def place(self, model: Model) -> None:
        """Let a model compute with PyTorch from now on."""
        super().place(model)
        model.net = self._torch.TorchNet(model.net, self.device)

    def trainer(
        self, model: Model, recipe: Recipe, seed: int, inputs: TrainingInputs
    ) -> StepTrainer:
        """Return what takes the steps of a run with PyTorch's own optimiser."""
        trainer: StepTrainer = self._torch.TorchTrainer(
            model,
            self.device,
            reg_lambda=recipe.reg_lambda,
            weight_decay=recipe.weight_decay,
            ema_decay=recipe.ema_decay,
            seed=seed,
        )
        return trainer

    def save(self, model: Model, path: Path) -> None:
        """Write ``model.pt``."""
        export.save_torch(model, path)


BACKENDS: dict[str, type[Native]] = {"native": Native, "numpy": Numpy, "torch": Torch}


def choose(name: str, device: str = "cpu") -> Native:
    """Return a backend by name; the device matters to our kernels and to PyTorch.

    Raises
    ------
    RuntimeError
        If PyTorch is asked for and is not installed, or there is no such device.
    """
    if name == "native" and device == "cuda":
        return Cuda()
    return Torch(device) if name == "torch" else BACKENDS[name]()
