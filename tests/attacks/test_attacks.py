"""The attacks' own rules: names, schedules, and errors."""

from __future__ import annotations

import pytest
import torch

from pytest_robust import APGD, FGSM, PGD, Linf
from pytest_robust.attacks import NAMES, Live, make
from pytest_robust.attacks.apgd import checkpoints


def live_at(x: torch.Tensor, threat: Linf) -> Live:
    n = len(x)
    zeros = torch.zeros(n, dtype=torch.int64)
    return Live(
        x,
        threat.region(x),
        {},
        zeros,
        zeros,
        torch.ones(n),
        torch.arange(n),
        zeros,
        zeros,
        torch.zeros(n),
        torch.zeros(n),
        torch.zeros(n, 2),
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_is_called_what_it_is_registered_as(name: str):
    assert make(name).name == name


def test_unknown_attacks_are_refused_with_the_known_names():
    with pytest.raises(ValueError, match="known: fgsm, fgsm-t, pgd"):
        make("pgdd")


def test_the_checkpoints_of_a_hundred_steps_are_those_of_the_paper():
    # p_1 = 0.22, p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), as shares of the steps
    expected, last, here = [], 0.0, 0.22
    while round(here * 100) <= 100:
        expected.append(round(here * 100))
        last, here = here, here + max(here - last - 0.03, 0.06)
    assert list(checkpoints(100)) == expected


@pytest.mark.parametrize(
    "build",
    [
        lambda: PGD(n_steps=0),
        lambda: PGD(n_restarts=0),
        lambda: PGD(loss="cee"),
        lambda: PGD(loss="margin-t"),
        lambda: PGD(loss="margin", n_targets=3),
        lambda: PGD(step_size=0),
        lambda: PGD(momentum=2),
        lambda: APGD(n_steps=0),
        lambda: APGD(loss="dlr-t"),
        lambda: FGSM(loss="none"),
    ],
)
def test_bad_parameters_are_refused(build):
    with pytest.raises(ValueError, match="got|there is"):
        build()


def test_apgd_halves_a_step_that_does_not_help_and_returns_to_its_best():
    """On |x| pulled to 0.5 a constant step oscillates; the halvings make it arrive."""
    threat = Linf(0.5)
    live = live_at(torch.full((1, 1), 0.13), threat)
    attack = APGD("margin", n_steps=100)
    attack.begin(threat, live)
    for _ in range(100):
        loss, grad = -(live.x - 0.5).abs().flatten(), -(live.x - 0.5).sign()
        attack.update(threat, live, loss, grad)
        live.step = live.step + 1
    assert live.state["best"].item() == pytest.approx(0.5, abs=1e-3)
    assert live.state["size"].item() < 0.1


def test_a_cosine_schedule_ends_at_a_hundredth():
    attack = PGD("margin", n_steps=20, step_size=1.0, schedule="cosine")
    sizes = attack._size(torch.arange(21))
    assert sizes[0].item() == pytest.approx(1.0)
    assert sizes[20].item() == pytest.approx(0.01)
    assert (sizes.diff() < 0).all()


def test_momentum_remembers_earlier_gradients():
    threat = Linf(0.5, bounds=None)
    with_memory, without = (live_at(torch.zeros(1, 2), threat) for _ in range(2))
    for live, momentum in ((with_memory, 0.9), (without, 0.0)):
        attack = PGD("margin", n_steps=10, step_size=0.1, momentum=momentum, random_start=False)
        attack.begin(threat, live)
        for grad in (torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -0.5]])):
            attack.update(threat, live, torch.zeros(1), grad)
            live.step = live.step + 1
    # The second gradients turn the second feature around, unless the first are still remembered:
    # scaled to mean 1 they are 1, then -2/3, and 0.9 - 2/3 > 0.
    assert with_memory.x[0].tolist() == pytest.approx([0.1, 0.1])
    assert without.x[0].tolist() == pytest.approx([0.1, 0.0])
