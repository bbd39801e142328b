"""Training: one step, the loop around it, and everything a run chooses and leaves behind."""

from __future__ import annotations

from mnist100.training.checkpoint import Checkpoint, CheckpointError, load_checkpoint
from mnist100.training.history import EpochRecord, read_history
from mnist100.training.interrupt import Interruption
from mnist100.training.loop import fit
from mnist100.training.recipes import Recipe, RecipeError, load_recipe
from mnist100.training.reports import EpochReport, FitResult, StepReport, TrainingError
from mnist100.training.step import train_step

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "EpochRecord",
    "EpochReport",
    "FitResult",
    "Interruption",
    "Recipe",
    "RecipeError",
    "StepReport",
    "TrainingError",
    "fit",
    "load_checkpoint",
    "load_recipe",
    "read_history",
    "train_step",
]
