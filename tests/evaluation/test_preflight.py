from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pytest_robust.data import load
from pytest_robust.errors import ModelError, PreflightError, ThreatError
from pytest_robust.evaluation.preflight import Preflight, mode, preflight
from pytest_robust.models import adapt
from pytest_robust.threats import L2, Linf
from pytest_robust.waivers import WAIVABLE

N = 40
X = torch.rand(N, 3, 2, 2, generator=torch.Generator().manual_seed(0))
W = torch.tensor([[1.0, -0.5, -0.5], [-0.5, 1.0, -0.5], [-0.5, -0.5, 1.0]])


def net(x: Tensor) -> Tensor:
    """Three classes: the channel that is brightest."""
    return x.mean((2, 3)) @ W.T.to(x)


Y = net(X).argmax(1)


def check(model: Any = net, data: Any = (X, Y), threat: Any = None, batch_size: int = 16, **options: Any) -> Preflight:
    adapted = adapt(model, normalize=options.pop("normalize", None))
    with adapted.isolated():
        examples = adapted.encode(load(data))
        return preflight(adapted, examples, threat or Linf("0.1"), batch_size=batch_size, **options)


def refused(*words: str, error: type[Exception] = PreflightError, **given: Any) -> None:
    with pytest.raises(error) as caught:
        check(**given)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_fit_gives_logits_outcomes_and_the_cost() -> None:
    labels = Y.clone()
    labels[3] = (labels[3] + 1) % 3
    found = check(data=(X, labels))
    assert torch.allclose(found.logits, net(X))
    assert found.correct.tolist() == [i != 3 for i in range(N)]
    assert found.findings == ()
    assert (found.forward, found.backward) == (N + 8, 8)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_outcomes_do_not_depend_on_the_batch_size(batch_size: int) -> None:
    assert torch.equal(check(batch_size=batch_size).correct, check().correct)


def test_inputs_of_different_shapes_come_back_in_data_order() -> None:
    rows = [x if i % 3 else x[:, :1] for i, x in enumerate(X)]
    labels = torch.cat([net(row.unsqueeze(0)).argmax(1) for row in rows])
    found = check(data=(rows, labels))
    assert found.correct.all()
    assert torch.allclose(found.logits, torch.cat([net(row.unsqueeze(0)) for row in rows]), atol=1e-6)


def test_running_out_of_memory_halves_the_batch() -> None:
    sizes = []

    def small(x: Tensor) -> Tensor:
        sizes.append(len(x))
        if len(x) > 5:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return net(x)

    assert check(small).correct.all()
    assert max(sizes) == 16
    assert 4 in sizes


def test_ties_go_to_the_first_class() -> None:
    tied = torch.tensor([[0.5, 0.5, 0.1]]).view(1, 3, 1, 1).expand(N, 3, 2, 2).clone()
    tied[1:] = X[1:]
    labels = torch.cat([torch.tensor([0]), Y[1:]])
    assert check(lambda x: x.mean((2, 3)) * 9.0, data=(tied, labels)).correct[0]


# Inputs and bounds.


def test_data_from_0_to_255() -> None:
    refused("bounds: inputs range from", "40 of 40", "bounds (0, 1)", "inputs / 255", data=(X * 255, Y))


def test_normalised_data() -> None:
    words = ("bounds: inputs range from -", "looks like normalised data", "normalize=(mean, std)", "bounds=None")
    refused(*words, data=((X - 0.5) / 0.25, Y))
    assert check(data=(X, Y), normalize=(0.5, 0.25)).correct.all()


def test_data_in_other_units() -> None:
    refused("bounds", "scale the data to [0, 1]", "bounds=(low, high)", data=(X * 16, Y))
    refused("bounds", "leave bounds (0, 0.5)", "bounds=None", threat=Linf("0.1", bounds=(0, 0.5)))


def test_per_channel_and_per_feature_bounds() -> None:
    low, high = X.amin((0, 2, 3)), X.amax((0, 2, 3))
    assert check(threat=Linf("0.1", bounds=(low, high))).findings == ()
    tight = high.clone()
    tight[1] -= 0.1
    refused("bounds", "per feature", threat=Linf("0.1", bounds=(low, tight)))
    assert check(threat=Linf("0.1", bounds=(X.amin(0), X.amax(0)))).findings == ()
    refused("bounds", "per feature", threat=Linf("0.1", bounds=(X.amin(0), X.amax(0) - 0.1)))


def test_rounding_is_not_outside_and_no_bounds_allow_everything() -> None:
    edge = X.clone()
    edge[0, 0, 0, 0] = 1 + 1e-6
    edge[1, 0, 0, 0] = -1e-6
    assert check(data=(edge, Y)).findings == ()
    assert check(data=(X * 100, Y), threat=Linf("0.1", bounds=None)).findings == ()


def test_bounds_of_a_wrong_shape_are_the_threats_to_explain() -> None:
    refused("lower bound", error=ThreatError, threat=Linf("0.1", bounds=(torch.zeros(5), torch.ones(5))))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite(value: float) -> None:
    broken = X.clone()
    broken[17, 0, 0, 0] = value
    refused("inputs: example 17 (id ", "NaN or infinite", data=(broken, Y))


# Budgets.


@pytest.mark.parametrize(
    ("threat", "detail"),
    [
        (
            Linf("25/255", bounds=(0, 255)),
            "eps 25/255 is 0.038% of the range 0..255: is it in the units of the inputs? 25 would be 25/255 of the range",
        ),
        (Linf("0.0004"), "eps 0.0004 is 0.04% of the range 0..1: is it in the units of the inputs?"),
        (Linf(8), "eps 8 covers the whole range [0, 1]: did you mean 8/255?"),
        (Linf(1), "eps 1 covers the whole range [0, 1]"),
        (Linf("0.5"), "eps 0.5 is 50% of the range [0, 1]: all inputs can be moved to the same point"),
        (Linf(3, bounds=(torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]))), "eps 3 covers the whole range [0, 3]"),
        (Linf("0.001", bounds=(0, torch.tensor([2.0, 1.5, 3.0]))), "eps 0.001 is 0.067% of the range 0..1.5: *"),
        (Linf(0), "eps is 0: this is clean accuracy, nothing is attacked"),
        (L2(0, bounds=None), "eps is 0: this is clean accuracy, nothing is attacked"),
    ],
)
def test_a_budget_in_other_units_is_suspicious(threat: Any, detail: str) -> None:
    (finding,) = check(threat=threat).findings
    assert (finding.name, finding.level, finding.waived) == ("unit", "suspicious", None)
    assert fnmatchcase(finding.detail, detail.replace("[", "[[]"))
    (finding,) = check(threat=threat, waive={"unit": "as meant"}).findings
    assert finding.waived == "as meant"


@pytest.mark.parametrize(
    "threat",
    [
        Linf("0.001"),
        Linf("0.49"),
        Linf(8, bounds=None),
        Linf(8, bounds=(0, float("inf"))),
        Linf("1.4", bounds=(0, torch.tensor([2.0, 1.0, 3.0]))),
        L2("0.0001"),
    ],
)
def test_a_budget_that_can_be_meant_is_no_finding(threat: Any) -> None:
    assert check(threat=threat).findings == ()


# Outputs.


def test_outputs_that_are_not_finite() -> None:
    def broken(x: Tensor) -> Tensor:
        return net(x) / (x[:, :1, 0, 0] != X[20, 0, 0, 0])

    refused("outputs: the model returned NaN or infinity for 1 of 40", "example 20 (id ", "division by zero", model=broken)


def test_labels_out_of_range() -> None:
    refused("labels: example", "label 3", "3 outputs, 0 to 2", "labels - 1", data=(X, Y + 1))
    labels = Y.clone()
    labels[5] = 7
    refused("example 5 (id ", "label 7", "from 0", data=(X, labels))


def test_probabilities() -> None:
    refused("probabilities", "before softmax", model=lambda x: net(x).softmax(1))
    binary = (Y == 0).long()
    refused(
        "probabilities",
        "before sigmoid",
        model=lambda x: torch.sigmoid(net(x)[:, :1]),
        data=(X, binary),
        waive={"one-class": "the point is another", "chance": "the point is another"},
    )


def test_a_sigmoid_on_several_classes() -> None:
    def squashed(x: Tensor) -> Tensor:
        return torch.sigmoid(net(x))

    refused("probabilities: every output lies in [0, 1]", "before sigmoid", "waive={'probabilities'", model=squashed)
    # A few true logits may all lie in there.
    assert check(squashed, data=(X[:13], Y[:13])).findings == ()
    (finding,) = check(squashed, waive={"probabilities": "trained with them"}).findings
    assert finding.waived == "trained with them"


def test_log_probabilities_are_logits() -> None:
    assert check(lambda x: net(x).log_softmax(1)).correct.all()


def test_the_number_of_classes_must_be_the_same_for_all() -> None:
    seen = []

    def growing(x: Tensor) -> Tensor:
        seen.append(1)
        return net(x) if len(seen) == 1 else net(x)[:, :2]

    refused("returned 3 logits for example 0", "and 2 for example 16", error=ModelError, model=growing)


def test_constant_outputs() -> None:
    refused("constant", "same for all 40", "trained weights", model=lambda x: net(x * 0) + torch.tensor([0.0, 2.0, 0.0]))


def test_one_predicted_class_is_suspicious() -> None:
    labels = torch.zeros(N, dtype=torch.int64)
    labels[:2] = 1
    found = check(lambda x: net(x) + torch.tensor([9.0, 0.0, 0.0]), data=(X, labels))
    assert [(f.name, f.level, f.waived) for f in found.findings] == [("one-class", "suspicious", None)]
    assert "class 0" in found.findings[0].detail
    waived = check(lambda x: net(x) + torch.tensor([9.0, 0.0, 0.0]), data=(X, labels), waive={"one-class": "rare"})
    assert waived.findings[0].waived == "rare"


# Chance.


def test_accuracy_at_or_below_chance() -> None:
    refused("chance: clean accuracy 0.0% (0 of 40)", "guessing gives 33.3%", "preprocessing wrong?", data=(X, (Y + 1) % 3))
    shuffled = Y[torch.randperm(N, generator=torch.Generator().manual_seed(1))]
    refused("chance: clean accuracy", data=(X, shuffled))


def test_few_examples_raise_no_false_alarm() -> None:
    few = slice(0, 2)
    assert not check(data=(X[few], (Y[few] + 1) % 3)).correct.any()
    six = Y[:6].clone()
    six[:3] = (six[:3] + 1) % 3
    assert check(data=(X[:6], six)).correct.sum() == 3


def test_weak_but_real_models_pass() -> None:
    labels = Y.clone()
    wrong = torch.arange(N) % 5 < 2
    labels[wrong] = (labels[wrong] + 1) % 3
    assert check(data=(X, labels)).correct.float().mean() == pytest.approx(0.6)


def test_a_large_sample_tells_a_weak_model_from_guessing() -> None:
    many = torch.rand(600, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = net(many).argmax(1)
    wrong = torch.arange(600) % 20 < 11
    labels[wrong] = (labels[wrong] + 1) % 3
    assert check(data=(many, labels)).correct.float().mean() == pytest.approx(0.45)


# Gradients.


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda x: net(x).detach(), "cut off from the input"),
        (lambda x: net(x.detach()), "cut off from the input"),
        (lambda x: net((x * 64).round() / 64), "zero or not finite"),
        (lambda x: net(x) + (x.flatten(1)[:, :1] * 0).sqrt() * 0, "zero or not finite"),
    ],
)
def test_no_gradient(model: Any, words: str) -> None:
    refused("gradient: no gradient reaches the input", words, "differentiable", model=model)


def test_a_backward_pass_that_raises_is_named() -> None:
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grad: Tensor) -> Tensor:
            raise NotImplementedError("no backward")

    refused("backward pass raised NotImplementedError: no backward", error=ModelError, model=lambda x: net(Odd.apply(x)))


def test_a_gradient_on_some_examples_is_enough_here() -> None:
    def partly(x: Tensor) -> Tensor:
        return net(torch.where((x[:, :1, :1, :1] > 0.3), x, x.detach()))

    assert check(partly).findings == ()


# Training mode.


@pytest.mark.parametrize("part", [nn.Dropout(0.5), nn.BatchNorm2d(3)])
def test_training_mode_of_parts_that_differ(part: nn.Module) -> None:
    module = nn.Sequential(part, nn.Flatten(), nn.Linear(12, 3))
    adapted = adapt(module)
    with pytest.raises(
        PreflightError, match=rf"mode: Sequential is in training mode: 0 \({type(part).__name__}\).*model\.eval"
    ):
        mode(adapted)
    (finding,) = mode(adapted, {"mode": "dropout is the defence"})
    assert (finding.name, finding.level, finding.waived) == ("mode", "invalid", "dropout is the defence")
    module.eval()
    assert mode(adapted) == ()


def test_a_harmless_training_flag_is_no_finding() -> None:
    assert mode(adapt(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.0)).train())) == ()


def test_many_parts_are_counted() -> None:
    with pytest.raises(PreflightError, match="and 2 more"):
        mode(adapt(nn.Sequential(*(nn.Dropout(0.5) for _ in range(5)))))


def test_a_model_of_another_kind_has_no_modes() -> None:
    class Own:
        name, space, device, classes, notes = "own", "input", torch.device("cpu"), None, ()
        approximated = ()
        dtype = read = encode = batch = logits = isolated = None

        def training_parts(self) -> tuple[str, ...]:
            return ()

    assert mode(adapt(Own())) == ()


# Waivers.


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("probabilities", {"model": lambda x: net(x).softmax(1)}),
        ("chance", {"data": (X, (Y + 1) % 3)}),
        ("constant", {"model": lambda x: net(x * 0) - 1}),
        ("gradient", {"model": lambda x: net(x).detach()}),
    ],
)
def test_a_waived_finding_is_kept_with_its_reason(name: str, given: dict[str, Any]) -> None:
    refused(f"{name}: ", f"waive={{'{name}': 'the reason'}}", **given)
    others = {"constant": "as meant", "chance": "as meant", "one-class": "as meant", "gradient": "as meant"}
    found = check(**given, waive={**others, name: "we know"})
    finding = next(f for f in found.findings if f.name == name)
    assert finding.waived == "we know"
    assert finding.level == "invalid"


def test_wrong_bounds_cannot_be_waived() -> None:
    refused("waive: 'bounds' is not a finding that can be waived", data=(X * 255, Y), waive={"bounds": "we know"})
    with pytest.raises(PreflightError) as caught:
        check(data=(X * 255, Y))
    assert "waive" not in str(caught.value)


@pytest.mark.parametrize("waive", [["chance"], "chance"])
def test_a_waiver_without_reasons_shows_the_right_form(waive: Any) -> None:
    refused("waive={'chance': 'the reason'}", f"got {waive!r}", waive=waive)


def test_unknown_waivers_and_empty_reasons_are_refused() -> None:
    refused("'speed' is not a finding", *WAIVABLE, waive={"speed": "fast"})
    refused("'labels' is not a finding", waive={"labels": "they are wrong"})
    refused("'chance' has no reason", waive={"chance": "  "})
