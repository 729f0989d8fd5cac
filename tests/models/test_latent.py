"""Hidden states inside text models, moved."""

from __future__ import annotations

import pytest
import torch
from text_models import Classifier, tokenizer
from torch import nn
from toy_texts import TEXTS, network
from toy_texts import tokenizer as toy_tokenizer

from pytest_robust import LatentBall, Linf, TextFunction, evaluate
from pytest_robust.errors import ModelError, ThreatError
from pytest_robust.evaluation.prepare import under
from pytest_robust.models import adapt

pytest.importorskip("transformers")

WAIVE = {"chance": "few texts"}
DATA = [
    ("the film was very good", 1), ("a film is good", 1), ("poor plot", 0), ("the plot was awful", 0), ("good", 1),
    ("bad", 0),
]  # fmt: skip


class Layered(Classifier):
    """Linear in what ``body`` returns for each token: how far each text is from breaking is known."""

    def __init__(self, tokens, dimensions=4):
        super().__init__(tokens, dimensions)
        self.body, self.unused = nn.Linear(dimensions, dimensions, bias=False), nn.Linear(dimensions, dimensions)
        self.head = nn.Linear(dimensions, 2)

    def read(self, embedded, there):
        self.unused(embedded)
        return self.head((self.body(embedded) * there).sum(1))


def layered():
    tokens = tokenizer()
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = Layered(len(tokens)).eval()
    with torch.no_grad():
        model.embeddings.weight.mul_(0.1)
        for word, sign in {"good": 1.0, "poor": -1.0, "awful": -2.0, "bad": -0.5}.items():
            model.embeddings.weight[tokens.get_vocab()[word]] += (
                sign * model.body.weight.T @ model.head.weight.diff(dim=0)[0]
            )
    return model, tokens


def room(model, tokens, text, label, norm="l2"):
    """The smallest radius per token that breaks the text, and the median norm of its hidden states."""
    encoded = tokens([text], return_tensors="pt")
    with torch.no_grad():
        logits = model(**encoded)[0]
        hidden = model.body(model.embeddings(encoded["input_ids"]))[0, 1:-1]
    margin = float(logits[label] - logits[1 - label])
    slope = model.head.weight.detach().diff(dim=0)[0]
    dual, norms = (slope.abs().sum(), hidden.abs().amax(1)) if norm == "linf" else (slope.norm(), hidden.norm(dim=1))
    return margin / (len(hidden) * float(dual)), float(norms.median())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("relative", [False, True])
def test_what_breaks_is_what_the_linear_model_says(norm, relative):
    model, tokens = layered()
    known = [room(model, tokens, *example, norm) for example in DATA]
    limits = [limit / median if relative else limit for limit, median in known]
    eps = sorted(limits)[2] + 1e-3
    threat = LatentBall(f"{100 * eps:.6f}%" if relative else eps, norm=norm, module="body")
    result = evaluate((model, tokens), DATA, threat, waive=WAIVE)
    assert result.correct.all()
    assert result.robust.tolist() == [limit > eps for limit in limits]
    assert 0 < result.robust.sum() < len(DATA)
    assert result.threat.space == "hidden states after body"


@pytest.mark.parametrize("name", ["bert.encoder.layer.0", "bert.embeddings", "bert.encoder.layer.0.attention.output"])
def test_nothing_moved_is_the_model_as_it_is(name):
    model, tokens = network("Bert"), toy_tokenizer()
    plain = adapt((model, tokens))
    latent = under(plain, LatentBall(1, module=name))
    encoded = latent.encode(latent.read(TEXTS))
    for i in range(len(TEXTS)):
        batch, clean = latent.batch(encoded.take([i])), plain.batch(encoded.take([i]))
        assert torch.equal(batch.free, clean.free)
        assert batch.x.shape == (*clean.x.shape[:2], 16)
        known = plain.logits(clean.x, clean.context)
        torch.testing.assert_close(latent.logits(batch.x, batch.context), known)
        moved = batch.x + 5 * batch.free
        assert not torch.allclose(latent.logits(moved, batch.context), known)
    assert not any(part._forward_hooks for part in model.modules())


def test_every_text_is_as_alone():
    model, tokens = network("Bert"), toy_tokenizer()
    threat = LatentBall("30%", module="bert.encoder.layer.0")
    one = evaluate((model, tokens), TEXTS * 2, threat, waive={**WAIVE, "constant": "untrained"})
    other = evaluate((model, tokens), TEXTS[::-1], threat, batch_size=1, waive={**WAIVE, "constant": "untrained"})
    assert one.robust.tolist()[:4] == one.robust.tolist()[4:] == other.robust.tolist()[::-1]


def test_the_layers_after_are_attacked_and_the_model_is_left_as_it_was():
    model, tokens = network("DistilBert", dim=16, hidden_dim=32, n_heads=2, n_layers=2), toy_tokenizer()
    with torch.no_grad():
        for parameter in model.distilbert.transformer.layer[1].parameters():
            parameter.mul_(20 if parameter.ndim == 2 else 1)  # so that words have a say at all
        labels = [int(model(**tokens([text], truncation=True, return_tensors="pt")).logits.argmax()) for text, _ in TEXTS]
    data = [(text, label) for (text, _), label in zip(TEXTS, labels, strict=True)]
    name = "distilbert.transformer.layer.0"
    weak, strong = (
        evaluate((model, tokens), data, LatentBall(eps, module=name), waive={**WAIVE, "constant": "untrained"})
        for eps in ("0.01%", "1000%")
    )
    assert weak.accuracy == 1
    assert strong.accuracy == 0
    assert not any(part._forward_hooks for part in model.modules())


class Odd(Layered):
    def read(self, embedded, there):
        twice = self.body(self.body(embedded))
        return self.head(self.unused(twice.sum(1))) + self.head((twice * there).sum(1))


@pytest.mark.parametrize(
    ("make", "name", "words"),
    [
        (layered, "bodi", "LatentBall: the model has no submodule 'bodi'; did you mean 'body'"),
        (layered, "unused", "nothing of what 'unused' returns for the words of a text reaches the outputs of Layered"),
        (layered, "head", r"'head' returns shape \(1, 2\), where \(1, 16\) vectors of floats are needed"),
        (lambda: (Odd(len(tokenizer())).eval(), tokenizer()), "body", "calls 'body' 2 times, where once is needed"),
        (lambda: (network("Bert"), toy_tokenizer()), "bert.encoder.layer.1", "many models read a special token only"),
        (lambda: (network("Bert"), toy_tokenizer()), "bert.encoder", "returns a BaseModelOutput"),
        (lambda: (network("Bert").bfloat16(), toy_tokenizer()), "bert.encoder.layer.0", "rounds small changes of hidden"),
    ],
)
def test_what_cannot_be_moved_is_said(make, name, words):
    with pytest.raises(ModelError, match=words):
        evaluate(make(), DATA, LatentBall(1, module=name), waive=WAIVE)


def test_only_text_models_have_hidden_states_here():
    with pytest.raises(ThreatError, match="LatentBall moves hidden states of text models"):
        evaluate(nn.Linear(4, 2), (torch.eye(4), [0, 1, 0, 1]), LatentBall(1, module="0"))
    with pytest.raises(ThreatError, match="LatentBall moves hidden states of text models"):
        evaluate(TextFunction(lambda texts: [[0.0, 1.0]] * len(texts)), DATA, LatentBall(1, module="0"))
    with pytest.raises(ThreatError, match="is no name; give one of model.named_modules"):
        LatentBall(1, module="")
    with pytest.raises(ValueError, match="edits of texts and hidden states are not voted on yet"):
        evaluate(layered(), DATA, LatentBall(1, module="body"), draws=3)
    assert not isinstance(LatentBall(1, module="body"), Linf)
