"""An image classifier under an Linf ball and a text classifier under an embedding ball: one path, the same attacks."""

from __future__ import annotations

import copy
import random
from fractions import Fraction

import pytest
import torch
from torch import nn

from pytest_robust import L2, EmbeddingBall, Linf, ThreatError, curve, evaluate, load_witness
from pytest_robust.evaluation.retry import retry
from pytest_robust.store.held import Held
from pytest_robust.store.witness import save_witness

transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
PRAISE, BLAME = ["good", "great", "superb", "fresh"], ["bad", "awful", "dull", "stale"]
FILLING = ["the", "film", "was", "quite", "a", "very", "and", "plot"]
WORDS = [*SPECIAL, *PRAISE, *BLAME, *FILLING]


def sentences(n: int, seed: int) -> list[tuple[str, int]]:
    draw = random.Random(seed)
    texts = []
    for i in range(n):
        words = [draw.choice(FILLING) for _ in range(draw.randint(2, 24))]
        for _ in range(draw.randint(1, 3)):
            words.insert(draw.randrange(len(words)), draw.choice(PRAISE if i % 2 else BLAME))
        texts.append((" ".join(words), i % 2))
    return texts


@pytest.fixture(scope="module")
def text_model():
    raw = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    raw.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", model_max_length=64
    )
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
        id2label={0: "blame", 1: "praise"}, label2id={"blame": 0, "praise": 1},
    )  # fmt: skip
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = transformers.BertForSequenceClassification(config)
    corpus = sentences(256, seed=1)
    columns = tokenizer([text for text, _ in corpus], padding=True, return_tensors="pt")
    labels = torch.tensor([label for _, label in corpus])
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(25):
        optimizer.zero_grad()
        model(**columns, labels=labels).loss.backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval(), tokenizer


@pytest.fixture(scope="module")
def texts():
    return sentences(60, seed=2)


class TinyConvolution(nn.Module):
    """Tells bright upper from bright lower halves."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 2))

    def forward(self, x):
        return self.body(x)


@pytest.fixture(scope="module")
def image_model():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(120) % 2
    x = 0.4 * torch.rand(120, 1, 8, 8, generator=generator)
    x[y == 0, :, :4] += 0.3
    x[y == 1, :, 4:] += 0.3
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = TinyConvolution()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x[:60]), y[:60]).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return model.eval(), (x[60:], y[60:])


@pytest.mark.parametrize("kind", ["image", "text"])
def test_both_go_through_the_same_evaluation(kind, request):
    if kind == "image":
        (model, data), small, large = request.getfixturevalue("image_model"), Linf("1/255"), Linf("80/255")
    else:
        model, data = request.getfixturevalue("text_model"), request.getfixturevalue("texts")
        small, large = EmbeddingBall("0.01"), EmbeddingBall("1.0")
    weak, strong = (evaluate(model, data, threat) for threat in (small, large))
    assert weak.clean_accuracy > 0.9
    assert weak.accuracy > 0.8 > 0.3 > strong.accuracy
    assert weak.attacks == strong.attacks == ("fgsm-t", "pgd-t1", "pgd-random", "pgd-t2")
    assert all(not late or early for early, late in zip(weak.robust, strong.robust, strict=True))
    assert weak.health.level == strong.health.level == "trusted"


@pytest.mark.parametrize(
    "threat", [EmbeddingBall("0.3"), EmbeddingBall("0.05", norm="linf"), EmbeddingBall("0.6", per="sequence")]
)
def test_only_words_move_and_no_farther_than_allowed(text_model, texts, threat):
    model, tokenizer = text_model
    result = evaluate(text_model, texts, threat)
    assert len(result.witnesses) > 5
    for i in result.witnesses:
        adversarial = result.adversarial(i)
        ids = tokenizer(texts[i][0])["input_ids"]
        padded = torch.tensor(ids + [0] * (len(adversarial) - len(ids)))
        delta = adversarial.double() - model.get_input_embeddings()(padded).detach().double()
        fixed = torch.tensor([w < len(SPECIAL) for w in padded.tolist()])
        assert (delta[fixed] == 0).all()
        size = {"l2 token": delta.norm(dim=1).max(), "linf token": delta.abs().max(), "l2 sequence": delta.norm()}
        assert size[f"{threat.norm} {threat.per}"] <= float(threat.budget) * (1 + 1e-9)
        mask = torch.zeros(1, len(padded), dtype=torch.int64)
        mask[0, : len(ids)] = 1
        with torch.no_grad():
            logits = model(inputs_embeds=adversarial[None], attention_mask=mask).logits
        assert logits.argmax().item() == result.predicted[i] != texts[i][1]


def test_texts_do_not_depend_on_their_neighbours_or_the_batch(text_model, texts):
    threat = EmbeddingBall("0.15")
    together = evaluate(text_model, texts, threat)
    alone = evaluate(text_model, texts, threat, batch_size=1)
    reverse = evaluate(text_model, texts[::-1], threat)
    assert together.robust.tolist() == alone.robust.tolist() == reverse.robust[::-1].tolist()
    assert 0 < together.accuracy < 1


def test_classes_have_the_names_of_the_configuration(text_model, texts):
    result = evaluate(text_model, texts, EmbeddingBall("0.3"))
    assert result.classes == ("blame", "praise")
    assert result.accuracy_of("blame").n == 30


def test_a_pixel_budget_on_text_is_refused_with_the_way_out(text_model, texts):
    with pytest.raises(ThreatError, match="EmbeddingBall"):
        evaluate(text_model, texts, Linf("8/255"))


def test_an_image_model_takes_every_norm_through_the_same_path(image_model):
    model, data = image_model
    assert evaluate(model, data, L2("3")).accuracy < evaluate(model, data, L2("0.1")).accuracy


@pytest.mark.parametrize("largest", [EmbeddingBall("0.2"), EmbeddingBall("0.6", per="sequence")])
def test_the_curve_of_a_text_model_breaks_what_separate_evaluations_break(text_model, texts, largest):
    """In a batch, examples have budgets of their own, and tokens that do not move."""
    texts = texts[:30]
    found = curve(text_model, texts, largest, budgets=[largest.budget.part(Fraction(i, 3)) for i in (1, 2, 3)])
    for budget, evaluation in zip(found.budgets, found.evaluations, strict=True):
        separate = evaluate(text_model, texts, largest.with_eps(budget))
        # It may break more: an adversarial example of a larger budget, shrunk, can lie where an attack missed it.
        assert not (evaluation.robust & ~separate.robust).any()
    # Counts: on the ball per sequence a search without gradients gets farther, and no rate is found high enough.
    assert found.accuracy_at(found.budgets[0]).k > found.accuracy_at(found.budgets[-1]).k


def test_an_adversarial_text_is_tried_again_and_kept_as_a_witness(text_model, texts, tmp_path):
    threat = EmbeddingBall("0.3")
    result = evaluate(text_model, texts, threat, attacks="pgd-margin")
    points = list(result.witnesses.items())
    assert len(points) > 5
    verdicts = {retry(text_model, texts, result.ids[row], threat, point).verdict for row, point in points}
    assert verdicts == {"broken"}
    row, point = points[0]
    held = Held("check", "run", "k", result.ids[row], row, 1, "pgd-margin", {})
    path = tmp_path / "w.safetensors"
    save_witness(path, held, retry(text_model, texts, result.ids[row], threat, point), threat, None)
    witness = load_witness(path)
    assert witness.example.inputs == [texts[row][0]]
    assert witness.threat.summary() == threat.summary()
    with pytest.raises(AssertionError, match=r"still broken: witness .* at l2 0.3, found by pgd-margin"):
        witness.assert_right(text_model)
    # Other word vectors: the stored point is no change of this text any more, the same change of them is.
    model, tokenizer = copy.deepcopy(text_model[0]), text_model[1]
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.2)
        model.bert.embeddings.position_embeddings.weight.sub_(0.2)
    moved = retry((model, tokenizer), texts, result.ids[row], threat, point)
    assert not moved.inside
    with pytest.raises(AssertionError, match="still broken"):
        witness.assert_right((model, tokenizer))
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(10 * torch.nn.functional.one_hot(torch.tensor(witness.label), 2))
    witness.assert_right((model, tokenizer))
    assert retry((model, tokenizer), texts, result.ids[row], threat, point).verdict == "outside"
