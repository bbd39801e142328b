"""Early stopping: which epoch's weights are kept, and when to give up."""

from __future__ import annotations


class EarlyStopping:
    """Follows dev accuracy from epoch to epoch.

    Two questions are kept apart. *When to stop*: an epoch counts when it beats the last epoch that
    counted by more than `min_delta`, and training stops after `patience` epochs in a row that do
    not count; so several small gains count once their sum is large enough. *What to keep*: the
    weights of the highest accuracy seen, however small the gain, the earliest of equals. An epoch
    that gains less than `min_delta` is therefore kept, but does not reset the patience: training
    stops at the same epoch as if it had not been kept, with weights at least as good on dev.

    Parameters
    ----------
    patience
        How many epochs in a row may fail to count, at least 1.
    min_delta
        By how much an epoch has to win to count, a fraction of at least 0.
    """

    def __init__(self, patience: int, min_delta: float) -> None:
        if patience < 1:
            raise ValueError(f"patience: got {patience}, wants at least 1")
        if not min_delta >= 0:
            raise ValueError(f"min_delta: got {min_delta}, wants at least 0")
        self.patience = patience
        self.min_delta = min_delta
        self.best: float | None = None
        self._counted: float | None = None
        self._waited = 0

    @property
    def should_stop(self) -> bool:
        """Whether `patience` epochs in a row have not counted."""
        return self._waited >= self.patience

    def update(self, accuracy: float) -> bool:
        """Take the next epoch's dev accuracy; return whether its weights are the best so far."""
        if self._counted is None or accuracy > self._counted + self.min_delta:
            self._counted = accuracy
            self._waited = 0
        else:
            self._waited += 1
        improved = self.best is None or accuracy > self.best
        if improved:
            self.best = accuracy
        return improved
