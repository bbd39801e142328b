"""What is done at most every so often."""

from __future__ import annotations

import pytest

from mnist100.cli.seldom import Seldom


def test_it_is_not_done_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("mnist100.cli.seldom.monotonic", lambda: now[0])
    done: list[float] = []
    rare = Seldom(lambda: done.append(now[0]), 1.0)
    for _ in range(7):
        rare()
        now[0] += 0.5
    assert done == [6.0, 7.0, 8.0]


def test_what_was_left_out_is_done_at_the_end_however_that_comes() -> None:
    done: list[int] = []
    rare = Seldom(lambda: done.append(1), 3600.0)

    def stopped() -> None:
        with rare.at_the_end():
            rare()
            rare()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert len(done) == 1
    with rare.at_the_end():
        pass
    assert len(done) == 1
