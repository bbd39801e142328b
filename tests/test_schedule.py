"""Learning-rate schedules, against PyTorch's."""

from __future__ import annotations

import pytest
import torch

from mnist100.training.schedule import constant, one_cycle, schedule


def torch_rates(total: int, peak: float, final_div_factor: float) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=peak,
        total_steps=total,
        cycle_momentum=False,
        final_div_factor=final_div_factor,
    )
    rates = []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < total - 1:
            cycle.step()
    return rates


@pytest.mark.parametrize("final_div_factor", [1e4, 0.4, 0.04])
@pytest.mark.parametrize("total", [2, 3, 4, 10, 11, 97, 1000])
def test_one_cycle_is_pytorchs(total: int, final_div_factor: float) -> None:
    rate = schedule("one-cycle", final_div_factor)
    rates = [rate(step, total, 3e-3) for step in range(total)]
    assert rates == pytest.approx(torch_rates(total, 3e-3, final_div_factor), rel=1e-9, abs=1e-15)


def test_one_cycle_starts_low_peaks_at_a_third_and_ends_near_nothing() -> None:
    rates = [one_cycle(step, 1000, 1.0) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 25)
    assert rates[299] == max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 25e4)
    assert rates[:300] == sorted(rates[:300])
    assert rates[299:] == sorted(rates[299:], reverse=True)


def test_one_cycle_of_a_single_step_has_a_rate() -> None:
    assert 0 < one_cycle(0, 1, 1.0) <= 1


def test_constant_does_not_change() -> None:
    assert {constant(step, 7, 1e-3) for step in range(7)} == {1e-3}
    assert schedule("constant", 1e4) is constant


@pytest.mark.parametrize("name", ["constant", "one-cycle"])
@pytest.mark.parametrize("step", [-1, 5])
def test_a_step_outside_the_run_is_refused(name: str, step: int) -> None:
    with pytest.raises(ValueError, match=f"step: got {step}"):
        schedule(name, 1e4)(step, 5, 1.0)
