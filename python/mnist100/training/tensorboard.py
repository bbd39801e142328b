"""A run's epochs as TensorBoard shows them; needs the package tensorboardX (extra ``tensorboard``)."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mnist100.training.history import EpochRecord

FOLDER = "tensorboard"


class TensorBoardLog:
    """Event files of a run.

    Parameters
    ----------
    folder
        Made if it is not there.
    first_epoch
        The epoch that comes next; what an interrupted run logged from there on is hidden.

    Raises
    ------
    RuntimeError
        If tensorboardX is not installed; the message says how to install it.
    """

    def __init__(self, folder: Path, first_epoch: int) -> None:
        check_installed()
        from tensorboardX import SummaryWriter  # deferred: an extra

        purge = first_epoch if first_epoch > 1 else None
        self._writer = SummaryWriter(logdir=str(folder), purge_step=purge)

    def add(self, record: EpochRecord) -> None:
        """Log an epoch and flush it to disk."""
        scalars = {
            "loss": record.loss,
            "accuracy/train": record.train_acc,
            "accuracy/dev": record.dev_acc,
            "learning_rate": record.learning_rate,
            "images_per_second": record.images_per_second,
        }
        for name, value in scalars.items():
            if value is not None:
                self._writer.add_scalar(name, value, record.epoch)
        self._writer.flush()

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()


def check_installed() -> None:
    """Make sure that tensorboardX is there, without the second that importing it may take.

    Raises
    ------
    RuntimeError
        If it is not; the message says how to install it.
    """
    if importlib.util.find_spec("tensorboardX") is None:
        raise RuntimeError(
            "--log tensorboard needs the package tensorboardX: pip install 'mnist100[tensorboard]'"
        )
