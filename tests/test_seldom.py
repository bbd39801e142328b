"""What is done at most every so often."""

from __future__ import annotations

import pytest

from mnist100.cli.seldom import Seldom


def test_it_is_done_at_once_and_then_not_before_its_time() -> None:
    done: list[int] = []
    rare = Seldom(lambda: done.append(1), 3600.0)
    rare()
    rare()
    assert len(done) == 1
    often = Seldom(lambda: done.append(1), 0.0)
    often()
    often()
    assert len(done) == 3


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
    assert len(done) == 2
    with rare.at_the_end():
        pass
    assert len(done) == 2
