"""Text models are trained against edits and embedding balls by the same call."""

import pytest
import torch
from text_models import WORDS, SummedLinear, tokenizer

from pytest_robust import CharacterEdits, EmbeddingBall, evaluate, retrain

transformers = pytest.importorskip("transformers")

PRAISE, BLAME = ("good", "fine", "great"), ("bad", "poor", "awful")
TEXTS = [
    (f"the {thing} {verb} {degree}{word}", int(word in PRAISE))
    for thing in ("film", "plot", "magic")
    for verb in ("was", "is")
    for degree in ("", "very ")
    for word in (*PRAISE, *BLAME)
]


def reviewer():
    """Right on every text, by a little; words of letters mean nothing to it."""
    tokens = tokenizer()
    known = tokens.get_vocab()
    model = SummedLinear(len(known), 8, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    for _ in range(30):
        columns = tokens([text for text, _ in TEXTS], padding=True, return_tensors="pt")
        logits = model(**columns)
        logits = logits if isinstance(logits, torch.Tensor) else logits.logits
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, torch.tensor([label for _, label in TEXTS])).backward()
        optimizer.step()
    return model.eval(), tokens


def test_typing_errors_are_learnt_from_and_embeddings_with_them():
    model, tokens = reviewer()
    found = retrain((model, tokens), TEXTS, CharacterEdits(1), method="typos", epochs=8, lr=0.05, batch_size=8)
    assert isinstance(found.model, tuple)
    table, before = found.model[0].embeddings.weight, model.embeddings.weight
    letters = [i for token, i in tokens.get_vocab().items() if len(token.removeprefix("##")) == 1]
    assert not torch.equal(table[letters], before[letters])
    assert found.recipe.eps_warmup == 0
    whole, retrained = (
        evaluate(each, TEXTS, CharacterEdits(1), waive={"room": "short words"}).robust.mean()
        for each in ((model, tokens), found.model)
    )
    assert retrained > whole + 0.1


@pytest.mark.parametrize("method", ["auto", "freelb", "consistency"])
def test_balls_around_embeddings_leave_the_table_as_it_is(method):
    model, tokens = reviewer()
    found = retrain((model, tokens), TEXTS, EmbeddingBall("30%norm"), method=method, epochs=3, batch_size=8)
    assert torch.equal(found.model[0].embeddings.weight, model.embeddings.weight)
    assert any(not torch.equal(new, old) for new, old in zip(found.model[0].parameters(), model.parameters(), strict=True))
    assert len(WORDS) < len(tokens)
