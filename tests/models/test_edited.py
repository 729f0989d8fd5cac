from __future__ import annotations

import pytest
import torch
from text_models import scored, tokenizer

from pytest_robust import CharacterEdits, TextFunction, WordEdits
from pytest_robust.data import load
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.evaluation.prepare import under
from pytest_robust.models import adapt
from pytest_robust.models.edited import Edited

pytest.importorskip("transformers")

TEXTS = [("the film was good", 1), ("the plot is bad", 0), ("a very good plot, a great film, not bad", 1)]
SUBSTITUTES = {"good": ["fine", "poor"], "bad": ["awful", "great"], "film": ["plot"]}
WORTH = {"good": 2.0, "fine": 1.0, "great": 3.0, "bad": -2.0, "poor": -1.0, "awful": -3.0, "film": 0.25, "plot": -0.5}


def seen(threat, model, texts=TEXTS):
    edited = under(adapt(model), threat)
    assert isinstance(edited, Edited)
    encoded = edited.encode(load(texts))
    return edited, encoded


def test_logits_are_those_of_the_edited_text():
    model = scored(WORTH, default=-0.1)
    edited, encoded = seen(CharacterEdits(2), model)
    batch = edited.batch(encoded.take([0]))
    threat = CharacterEdits(2)
    region = threat.region(batch.x, batch.free)
    for key in range(20):
        x = threat.start(region, torch.tensor([key]))
        (text,) = edited.texts(x, batch.context)
        assert text != TEXTS[0][0]
        alone = model[0](**model[1]([text], return_tensors="pt"))
        torch.testing.assert_close(edited.logits(x, batch.context), alone)


def test_no_edit_is_the_text_itself():
    model = scored(WORTH)
    edited, encoded = seen(WordEdits(1, substitutes=SUBSTITUTES), model)
    for i, (text, _) in enumerate(TEXTS):
        batch = edited.batch(encoded.take([i]))
        assert edited.texts(batch.x, batch.context) == edited.clean(batch.context) == [text]
        alone = model[0](**model[1]([text], return_tensors="pt"))
        assert torch.equal(edited.logits(batch.x, batch.context), alone)


@pytest.mark.parametrize("taken", [None, (0, 0)])
def test_the_gradient_of_a_linear_model_says_what_each_option_is_worth(taken):
    """One token for one: there the embeddings foretell the change exactly."""
    edited, encoded = seen(WordEdits(2, substitutes=SUBSTITUTES), scored(WORTH))
    batch = edited.batch(encoded.take([0]))
    x = batch.x.clone()
    if taken is not None:
        x[0][taken] = 1
    x.requires_grad_()
    edited.logits(x, batch.context)[0, 1].backward()
    # the film was good: film -> plot; good -> fine or poor.
    known = torch.zeros_like(x)
    known[0, 0, 0] = WORTH["plot"] - WORTH["film"]
    known[0, 1, 0] = WORTH["fine"] - WORTH["good"]
    known[0, 1, 1] = WORTH["poor"] - WORTH["good"]
    torch.testing.assert_close(x.grad, known)


def test_the_gradient_finds_words_that_edits_before_them_have_moved():
    edited, encoded = seen(CharacterEdits(2, kinds=("insert", "delete")), scored(WORTH))
    batch = edited.batch(encoded.take([2]))
    last = max(site for site in range(batch.free.shape[1]) if bool(batch.free[0, site].any()))
    first = min(site for site in range(batch.free.shape[1]) if bool(batch.free[0, site].any()))
    grads = []
    for option in (None, 0):
        x = batch.x.clone()
        if option is not None:
            x[0, first, option] = 1
        x.requires_grad_()
        edited.logits(x, batch.context)[0, 1].backward()
        grads.append(x.grad[0, last])
    torch.testing.assert_close(*grads)
    assert bool((grads[0] != 0).any())


def test_between_texts_the_embeddings_are_mixed():
    """To a linear model the logits are mixed as the texts are, and their gradient is what each option is worth."""
    edited, encoded = seen(WordEdits(2, substitutes=SUBSTITUTES), scored(WORTH))
    batch = edited.batch(encoded.take([0, 0]))
    x = batch.x.clone()
    x[0, 0, 0], x[0, 1, 0], x[0, 1, 1] = 0.5, 0.25, 0.5
    x[1, 1, 1] = 1  # a text among them
    x.requires_grad_()
    logits = edited.logits(x, batch.context)
    plain, plot, fine, poor = (
        WORTH[a] - WORTH[b] for a, b in (("good", "poor"), ("plot", "film"), ("fine", "good"), ("poor", "good"))
    )
    clean = float(edited.logits(batch.x, batch.context)[0, 1].detach())
    torch.testing.assert_close(logits[:, 1], torch.tensor([clean + 0.5 * plot + 0.25 * fine + 0.5 * poor, clean - plain]))
    logits[0, 1].backward()
    known = torch.zeros(x.shape[1:])
    known[0, 0], known[1, 0], known[1, 1] = plot, fine, poor
    torch.testing.assert_close(x.grad[0], known)


def test_options_of_other_lengths_are_mixed_in_by_their_mean():
    """ "fine" is one token, "fne" are three."""
    model = scored({**WORTH, "f": 3.0, "##n": 6.0, "##e": -3.0})
    edited, encoded = seen(CharacterEdits(1, kinds=("delete",)), model, [("fine", 1)])
    batch = edited.batch(encoded.take([0]))
    option = next(i for i, site in enumerate(edited._sites[0]) if edited.texts(_one(batch.x, i), batch.context) == ["fne"])
    x = _one(batch.x, option) / 2
    assert edited.logits(x, batch.context)[0, 1].item() == pytest.approx(0.5 * WORTH["fine"] + 0.5 * (3 + 6 - 3) / 3)
    assert edited.logits(2 * x, batch.context)[0, 1].item() == pytest.approx(3 + 6 - 3)


def _one(x, site):
    point = torch.zeros_like(x)
    point[0, site, 0] = 1
    return point


def test_texts_in_a_batch_are_as_alone():
    edited, encoded = seen(CharacterEdits(1), scored(WORTH, default=-0.1))
    logits = []
    for rows in ([0, 1], [0], [1]):
        batch = edited.batch(encoded.take(rows))
        x = batch.x.clone().requires_grad_()
        found = edited.logits(x, batch.context)
        found.sum().backward()
        logits.append((found.detach(), x.grad))
    for part in (0, 1):
        torch.testing.assert_close(logits[0][part], torch.cat([logits[1][part], logits[2][part]]))


def test_token_ids_cannot_be_edited():
    columns = {"input_ids": [torch.tensor([2, 4, 3])], "label": [0]}
    with pytest.raises(PreflightError, match="edits are of texts, and token ids were given"):
        under(adapt(scored(WORTH)), CharacterEdits(1)).encode(load(columns))


def as_function(texts):
    model, tokens = scored(WORTH)
    return model(**tokens(texts, return_tensors="pt", padding=True)).detach().numpy()


def test_a_function_of_texts_has_the_logits_of_its_model():
    edited, encoded = seen(CharacterEdits(1), TextFunction(as_function))
    assert not edited.differentiable
    batch = edited.batch(encoded.take([0]))
    x = CharacterEdits(1).start(CharacterEdits(1).region(batch.x, batch.free), torch.tensor([1]))
    model, tokens = scored(WORTH)
    alone = model(**tokens(edited.texts(x, batch.context), return_tensors="pt"))
    torch.testing.assert_close(edited.logits(x, batch.context), alone)


@pytest.mark.parametrize(
    ("answer", "logits"),
    [
        (lambda texts: [[0.5, 2.0]] * len(texts), [[0.5, 2.0]]),
        (lambda texts: torch.tensor([[0.5, 2.0]] * len(texts)), [[0.5, 2.0]]),
        (lambda texts: ["yes"] * len(texts), [[-1.0, 1.0]]),
        (lambda texts: torch.tensor([1] * len(texts)), [[-1.0, 1.0]]),
    ],
)
def test_a_function_may_answer_in_many_ways(answer, logits):
    assert TextFunction(answer, ["no", "yes"]).of(["text"]).tolist() == logits


def test_probabilities_become_logits():
    found = TextFunction(lambda texts: [[0.25, 0.75]], probabilities=True).of(["text"])
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.75]], dtype=torch.float64).log())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TextFunction("model"), "takes a function of a list of texts, got a str"),
        (lambda: TextFunction(len, classes="ab"), "is one text; give a list of names"),
        (lambda: TextFunction(lambda texts: None).of(["a"]), "returned a NoneType for 1 texts; return one row of scores"),
        (lambda: TextFunction(lambda texts: ["yes"]).of(["a"]), "say which there are: classes="),
        (
            lambda: TextFunction(lambda texts: ["maybe"], ["no", "yes"]).of(["a"]),
            "returned the answer 'maybe'; it has",
        ),
        (lambda: TextFunction(lambda texts: ["no"], ["no", "yes"]).of(["a", "b"]), "returned 1 answers for 2 texts"),
        (lambda: TextFunction(lambda texts: 1 / 0).of(["a"]), "raised ZeroDivisionError on 1 texts, the first 'a'"),
        (lambda: TextFunction(lambda texts: [[1.0, 2.0]], probabilities=True).of(["a"]), "returned values outside"),
        (lambda: TextFunction(lambda texts: [[1.0, 2.0]]).of(["a", "b"]), "shape"),
    ],
)
def test_what_cannot_be_scored_is_an_error(make, words):
    with pytest.raises(ModelError, match=words):
        make()


def test_the_tokenizer_of_the_user_is_left_alone():
    model, tokens = scored(WORTH)
    before = tokens.backend_tokenizer.to_str()
    edited, encoded = seen(CharacterEdits(1), (model, tokens))
    batch = edited.batch(encoded.take([0]))
    edited.logits(batch.x.requires_grad_(), batch.context)
    assert tokens.backend_tokenizer.to_str() == before == tokenizer().backend_tokenizer.to_str()
