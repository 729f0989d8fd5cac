"""Model calls for each text that breaks, against TextAttack, which is run here on the same model and the same texts.

A small BERT is trained on the spot (see text.py), on questions (trec6), sentences (sst2) or reviews (imdb_cad), and its test
texts are attacked by recipes of TextAttack and by the profile ``standard`` within the same threat. What is left out of the
recipes is left out of both: there are no stop words; recipes without a limit get one on the words they change, and those of
dictionaries that have to be downloaded get the table of text.py in place of them. Pruthi2019 tries every typo of every word,
greedy and weighted saliency (PWWS) every substitute; DeepWordBug and deletion (TextFooler) rank the words by leaving out or
hiding each, and then try a few changes of the first ones; HotFlip goes by gradients, which TextAttack computes for models of
whole words only and here gets by word.

A call is a forward or a backward pass of one text. Counted are all that TextAttack makes; and here the clean pass, those of
the attacks, and the pass that verifies a break. "calls/broken" is the mean over texts that broke, "calls/success" the sum
over all texts, survivors too, by the number that broke: TextAttack gives up early on a survivor, where pytest-robust goes on
to make sure. "as many" is what it takes here until as many are broken as TextAttack breaks: all texts get the same number of
calls, the smallest that is enough.

Needs textattack, with transformers 4.57, where pytest-robust is (``pip install --no-deps textattack==0.3.11``, then
``lru-dict more-itertools editdistance levenshtein pandas requests``); without it a line says so. Exit status 1 when an
exhaustive recipe takes less than five times as many calls for a text that breaks, or a recipe over the same changes breaks
more.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from common import quiet, show
from text import Labelled, sentences, swaps, trained

from pytest_robust import CharacterEdits, WordEdits, evaluate
from pytest_robust.threats import Edits

HEADERS = [
    "TextAttack", "threat", "right", "broken", "calls/broken", "calls/success",
    "broken here", "calls/broken", "x", "calls/success", "x", "as many", "x",
]  # fmt: skip
Counts = npt.NDArray[np.int64]
_ABSENT = (
    "OpenHowNet", "bert_score", "datasets", "flair", "jieba", "langdetect", "language_tool_python", "lemminflect", "nltk",
    "num2words", "pinyin", "terminaltables", "word2number",
)  # fmt: skip
"""What TextAttack imports and these recipes do not use; some of it downloads when it is imported."""


class Nothing(ModuleType):
    """Whatever it is asked for, it has nothing."""

    Tokenizer = object  # from which a class is derived

    def __init__(self, name: str = "nothing") -> None:
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return Nothing()

    def __call__(self, *arguments: object, **more: object) -> Any:
        return Nothing()

    def __iter__(self) -> Any:
        return iter(())


class StandIns(MetaPathFinder, Loader):
    """Nothing, by the names of modules that are absent."""

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in _ABSENT else None

    def create_module(self, spec: ModuleSpec) -> Nothing:
        return Nothing(spec.name)

    def exec_module(self, module: object) -> None:
        pass


@dataclass(frozen=True)
class Compared:
    """A recipe and the threat that is the same here.

    Attributes:
        attack: from the counted model to TextAttack's attack. exhaustive: it tries all changes before it makes one.
        same: whether both may make the same changes; otherwise nearly the same.
    """

    name: str
    threat: Edits
    attack: Callable[[Any], Any]
    exhaustive: bool = False
    same: bool = True


def textattack() -> Any:
    """TextAttack, with stand-ins for what it only imports."""
    sys.meta_path.insert(0, StandIns())
    import textattack

    textattack.shared.utils.set_seed(0)
    return textattack


def counted(lib: Any, model: Any, tokens: Any) -> Any:
    """The model for TextAttack: calls are counted, padding is that of the batch, and gradients are those of words."""

    class Counted(lib.models.wrappers.HuggingFaceModelWrapper):  # type: ignore[misc]
        calls = 0

        @torch.no_grad()
        def __call__(self, texts: list[str]) -> torch.Tensor:
            self.calls += len(texts)
            scores: torch.Tensor = model(**tokens(texts, padding=True, truncation=True, return_tensors="pt")).logits
            return scores.softmax(1)

        def get_grad(self, text: str) -> dict[str, Any]:
            self.calls += 2
            columns = tokens([text], truncation=True, return_offsets_mapping=True, return_tensors="pt")
            places = columns.pop("offset_mapping")[0].tolist()
            embedded = model.get_input_embeddings()(columns["input_ids"]).detach().requires_grad_()
            logits = model(inputs_embeds=embedded, attention_mask=columns["attention_mask"]).logits
            torch.nn.functional.cross_entropy(logits, logits.argmax(1)).backward()
            end, ids, grads = 0, [], []
            for word in lib.shared.AttackedText(text).words:
                start = text.find(word, end)
                end = start + len(word)
                own = [i for i, (a, b) in enumerate(places) if a < b and a < end and b > start]
                ids.append(int(columns["input_ids"][0, own[0]]) if own else 0)
                grads.append(embedded.grad[0, own].sum(0))
            return {"ids": ids, "gradient": torch.stack(grads).numpy()}

    tokens.convert_id_to_word = lambda i: "".join(token for token in [tokens.convert_ids_to_tokens(i)] if token.isalnum())
    return Counted(model, tokens)


def recipes(lib: Any, table: dict[str, list[str]]) -> list[Compared]:
    """What is compared, for texts with these substitutes."""
    limited = lib.constraints.overlap.MaxWordsPerturbed
    no_word_twice = lib.constraints.pre_transformation.RepeatModification
    search = lib.search_methods
    known, gradient = lib.attack_recipes, lib.transformations.WordSwapGradientBased

    class Table(lib.transformations.WordSwap):  # type: ignore[misc]
        def _get_replacement_words(self, word: str) -> list[str]:
            return list(table.get(word, table.get(word.lower(), ())))

    def words(method: Any, k: int, transformation: Callable[[Any], Any] = lambda model: Table()) -> Callable[[Any], Any]:
        def make(model: Any) -> Any:
            goal = lib.goal_functions.UntargetedClassification(model)
            return lib.Attack(goal, [no_word_twice(), limited(max_num_words=k)], transformation(model), method)

        return make

    def deep_word_bug(model: Any, k: int) -> Any:
        built = known.DeepWordBugGao2018.build(model)
        constraints = [no_word_twice(), limited(max_num_words=k), *built.constraints]
        return lib.Attack(built.goal_function, constraints, built.transformation, built.search_method)

    # Otherwise it refuses every model but its own, since it takes the number of a word for that of its token.
    module = sys.modules[gradient.__module__]
    module.validate_model_gradient_word_swap_compatibility = lambda model: None  # type: ignore[attr-defined]
    found = []
    for k in (1, 2):
        typos, swapped = CharacterEdits(k), WordEdits(k, substitutes=table)
        anywhere = CharacterEdits(k, shortest=2, ends=True)
        pruthi = lambda model, k=k: known.Pruthi2019.build(model, max_num_word_swaps=k)  # noqa: E731
        found += [
            Compared("Pruthi2019", typos, pruthi, exhaustive=True),
            Compared("DeepWordBug", anywhere, lambda model, k=k: deep_word_bug(model, k), same=False),  # type: ignore[misc]
            Compared("greedy, all", swapped, words(search.GreedySearch(), k), exhaustive=True),
            Compared("PWWS", swapped, words(search.GreedyWordSwapWIR("weighted-saliency"), k), exhaustive=True),
            Compared("TextFooler", swapped, words(search.GreedyWordSwapWIR("delete"), k)),
        ]
    of_vocabulary = words(search.BeamSearch(10), 2, lambda model: gradient(model, top_n=1))
    return [*found, Compared("HotFlip", WordEdits(2), of_vocabulary, same=False)]


def theirs(lib: Any, model: Any, attack: Any, data: Labelled) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """The calls that each text took, and whether it broke."""
    results, calls = lib.attack_results, []
    for text, label in data:
        model.calls = 0
        result = attack.attack(text, label)
        calls.append((model.calls, isinstance(result, results.SuccessfulAttackResult)))
    return np.array([n for n, _ in calls]), np.array([broken for _, broken in calls])


def ours(model: Any, data: Labelled, threat: Edits) -> tuple[Counts, npt.NDArray[np.bool_]]:
    """The same, of texts that are right without attack."""
    waive = dict.fromkeys(("chance", "one-class"), "only texts that are right")
    result = evaluate(model, data, threat, waive=waive)
    broken = ~result.robust
    proposals = 2 if threat.is_open else 0
    return result.passes + 1 + broken + proposals, broken


def as_many(calls: Counts, broken: npt.NDArray[np.bool_], wanted: int) -> float | None:
    """Calls for each success when all texts get the same number of them, the smallest that breaks as many as wanted."""
    if not 0 < wanted <= broken.sum():
        return None
    most = np.sort(calls[broken])[wanted - 1]
    return float(np.minimum(calls, most).sum() / (broken & (calls <= most)).sum())


def row(what: Compared, data: Labelled, calls: Sequence[tuple[Counts, npt.NDArray[np.bool_]]]) -> tuple[list[str], bool]:
    """A line of the table, and whether it is as it has to be."""
    cells, figures = [], []
    for counts, broken in calls:
        n = int(broken.sum())
        figures.append((counts[broken].mean() if n else np.nan, counts.sum() / n if n else np.nan, n))
    (their_broken, their_all, they), (our_broken, our_all, we) = figures
    equal = as_many(*calls[1], they)
    cells = [what.name, str(what.threat.summary()), str(len(data)), str(they), f"{their_broken:.1f}", f"{their_all:.1f}"]
    cells += [
        str(we),
        f"{our_broken:.1f}",
        f"{their_broken / our_broken:.1f}",
        f"{our_all:.1f}",
        f"{their_all / our_all:.1f}",
    ]
    cells += ["-", "-"] if equal is None else [f"{equal:.1f}", f"{their_all / equal:.1f}"]
    fine = (not what.exhaustive or their_broken >= 5 * our_broken) and (not what.same or we >= they)
    return cells, bool(fine)


def reviews(path: Path) -> Labelled:
    """Reviews of films with their labels, each once."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.DictReader(file, delimiter="\t")
        pairs = [(line["Text"].replace("<br />", " "), int(line["Sentiment"] == "Positive")) for line in lines]
    return list(dict.fromkeys(pairs))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="folder with the corpora")
    parser.add_argument("--set", choices=("trec6", "sst2", "imdb_cad"), default="sst2", help="which of them")
    parser.add_argument("--n", type=int, default=100, help="test texts (100)")
    parser.add_argument("--epochs", type=int, default=5, help="of training (5)")
    parser.add_argument("--recipes", metavar="NAME[,..]", help="only these")
    args = parser.parse_args(arguments)
    try:
        versions = f"TextAttack {version('textattack')}"
    except PackageNotFoundError:
        print("textattack is not installed: nothing to compare with")
        return 0
    quiet()
    folder, limit = args.data / args.set, 64
    if args.set == "imdb_cad":
        train, test, limit = reviews(folder / "orig_train.tsv"), reviews(folder / "orig_test.tsv"), 256
    else:
        train, test = sentences(folder / "train.txt"), sentences(folder / "test.txt")
    model, tokens = trained(train, args.epochs, limit)
    lib = textattack()
    victim = counted(lib, model, tokens)
    right = [(text, label) for text, label in test[: args.n] if int(victim([text]).argmax()) == label]
    rows, fine = [], True
    for what in recipes(lib, swaps(train)):
        if args.recipes is None or what.name in args.recipes.split(","):
            both = [theirs(lib, victim, what.attack(victim), right), ours((model, tokens), right, what.threat)]
            cells, good = row(what, right, both)
            rows.append(cells)
            fine &= good
    length = np.mean([len(text.split()) for text, _ in right])
    show(rows, HEADERS, f"{args.set}: {len(right)} texts of {length:.0f} words that are right, of {args.n}; {versions}")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
