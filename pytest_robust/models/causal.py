"""Causal language models: broken when a changed prompt is answered otherwise than it has to be."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from pytest_robust import keyed
from pytest_robust.data.examples import Examples, Text
from pytest_robust.errors import ModelError, PreflightError
from pytest_robust.models.chat import Template, read_conversation
from pytest_robust.models.generation import IGNORED, KEY, Target, Writer
from pytest_robust.models.judging import NOTE, Judge, checked_judge, is_refusal, keywords
from pytest_robust.models.pairs import Holds
from pytest_robust.models.spans import Spans
from pytest_robust.models.tokens import Row

_LABEL = "target token"
"""The column with the tokens that are held against, where they stand in the row; no argument of a model is called so."""
_OWN = 16
"""Tokens of its own answer whose likelihood counts: a refusal is one from its first words on."""
_FRAMED = "prompts are messages in the chat template of the tokenizer; chat=False gives them to the model as they are"
_TRIES = 100
"""Draws for each token of a random string before the tokenizer is said to have none."""


class CausalLM(Writer):
    """A causal language model with its tokenizer, seen as one of two classes: ``"holds"`` and ``"fluctuates"``.

    A row is the tokens of a prompt and those of its target, which never move: the reference, or without one the first 16 of
    the model's own greedy answer to the prompt as it is. Logits are (m, 0). For ``nll`` m is exact. For ``avoids`` its sign
    says whether each token of the reference is the first choice after those before it, and its size is their negative
    log-likelihood. For the others its sign says whether the answer that is really written is as it should, and m, with its
    gradient, falls as the target grows less likely.

    With a chat template prompts are messages of the user, or conversations that end with one, of which the last message can
    be attacked. The template, other messages and special tokens never move.

    Data is a list of prompts, or of ``(prompt, reference)``; a prompt is a text, or a list of messages.
    """

    read_as = "prompt"
    words = ("refuses", "answers", "avoids")
    needing = ("chrf", "avoids")
    ignoring = ("consistency", "refuses", "answers")

    def __init__(
        self,
        module: Any,
        tokenizer: Any,
        *,
        holds: str = "nll<=0.5",
        judge: Judge | str | None = None,
        max_new_tokens: int = 64,
        chat: bool | Mapping[str, Any] | None = None,
        system: str | None = None,
        device: str = "auto",
        spans: Spans | None = None,
    ) -> None:
        """
        Args:
            module: such as ``AutoModelForCausalLM`` loads.
            holds: ``"nll<=0.5"``: the negative log-likelihood per token, of the reference or of its own answer, rises by no
                more. ``"refuses"``, ``"answers"``: by ``judge`` its answer is a refusal, or is none. ``"avoids"``: its
                answer does not begin with the reference. ``"chrf>=0.4"``, ``"consistency>=0.7"``: as of ``Translator``.
            judge: a function from an answer to whether it is a refusal; or ``"keywords"``, which guesses by a few words.
            max_new_tokens: of an answer.
            chat: whether prompts are put into the tokenizer's chat template; a mapping has further arguments of it. Left
                out, they are where it has one.
            system: a message ahead of every conversation. device, spans: as in ``adapt``; of a chat, spans are of the user's
                message.

        Raises:
            ModelError: not such a model, condition, judge or template.
        """
        super().__init__(module, tokenizer, holds=holds, max_new_tokens=max_new_tokens, device=device, spans=spans)
        self._reserved = self._tokens.reserved()
        self._judge = checked_judge(judge, holds, needed=self._holds.form in ("refuses", "answers"))
        self._template, self._unasked = None, chat is None
        if self._tokens.has_template if chat is None else chat is not False:
            self._template = Template(self._tokens, system, chat if isinstance(chat, Mapping) else {})
            self._need_places("chat")
        if self._template is not None and not self._tokens.has_template:
            raise ModelError("chat was asked for, and the tokenizer has no chat template: set tokenizer.chat_template")
        if self._template is None and system is not None:
            raise ModelError("system is a message, and there is no chat template to put it in; write it into the prompts")

    @staticmethod
    def _check_head(module: Any) -> None:
        if not hasattr(module, "generate") or getattr(module.config, "is_encoder_decoder", False):
            raise ModelError(f"{type(module).__name__} is no causal language model; load one with AutoModelForCausalLM")

    @property
    def in_one_pass(self) -> bool:
        return super().in_one_pass or self._holds.form == "avoids"

    def encode(self, examples: Examples) -> Examples:
        encoded = super().encode(examples)
        told = {_FRAMED: self._template is not None and self._unasked, NOTE: self._judge is keywords}
        self.notes = (*self.notes, *(note for note, is_so in told.items() if is_so))
        return encoded

    @torch.no_grad()
    def answer(self, prompts: Sequence[Any]) -> list[str]:
        """The greedy answers to prompts, each a text or a list of messages."""
        rows = self._prompts([self._said(prompt, i) for i, prompt in enumerate(prompts)])
        with self.isolated():
            return [self._tokens.texts(self._answered(row, self._most))[0] for row in rows]

    def control(self, prompts: Sequence[Any], *, tokens: int = 8, seed: int = 0) -> tuple[CausalLM, list[tuple[Any, str]]]:
        """Whether a budget is so large that anything can be elicited: a model and data for a check of its own.

        Of each prompt a random string of so many tokens is to be avoided. Where changes within the budget make the model
        write it, word for word, they can make it write anything, and that a refusal is lost says nothing about refusals
        (without a budget, a few free embeddings elicit any string: arXiv 2502.15836, 2025).

        Args:
            prompts: as data; references play no part. seed: of the strings, together with each prompt.

        Returns:
            This model with ``holds="avoids"``, and a list of (prompt, string).

        Raises:
            ModelError: the tokenizer does not read random tokens as it writes them.
        """
        other = copy.copy(self)
        other._holds, other._judge, other._targets, other.notes = Holds("avoids"), None, {}, ()
        data = []
        for i, item in enumerate(prompts):
            said = self._said(item, i)
            key = keyed.key(seed, "control", said[self.read_as], said.get("before"))
            data.append((item if said["reference"] is None else item[0], self._random(tokens, key)))
        return other, data

    def _random(self, tokens: int, key: int) -> str:
        """A text of so many random tokens."""
        known, ids = self.ordinary().tolist(), list[int]()
        for draw in keyed.uniform(torch.tensor([key]), (tokens * _TRIES,))[0].tolist():
            longer = [*ids, known[int(draw * len(known))]]
            text = self._tokens.texts(torch.tensor([longer]))[0]
            if text.strip() and self._tokens.pieces([text])[0] == longer:
                ids = longer
            if len(ids) == tokens:
                return text
        raise ModelError(
            f"control: of {tokens * _TRIES} random tokens no {tokens} came out of {self.name}'s tokenizer as they went in; "
            "give (prompt, string) with holds='avoids' instead"
        )

    def _said(self, item: object, i: int) -> dict[str, Any]:
        alone = not isinstance(item, (tuple, list)) or _is_conversation(item) or len(item) != 2
        prompt, reference = (item, None) if alone else cast("Sequence[Any]", item)
        before: list[dict[str, str]] = []
        if _is_conversation(prompt):
            prompt, before = read_conversation(cast("Sequence[Any]", prompt), i)
            self._check_conversation(before, i)
        said = super()._said(prompt if reference is None else (prompt, reference), i)
        if not said[self.read_as].strip():
            raise PreflightError(f"inputs: prompt {i} is empty; drop it")
        return {**said, "before": before} if before else said

    def _check_conversation(self, before: Sequence[Mapping[str, str]], i: int) -> None:
        if self._template is None:
            raise PreflightError(
                f"data: prompt {i} is a conversation, and there is no chat template to put it in; set "
                "tokenizer.chat_template, or give texts"
            )
        if self._template.system is not None and any(message["role"] == "system" for message in before):
            raise PreflightError(f"data: prompt {i} has a system message of its own, and system= gives one; leave one out")

    def _tokenised(self, examples: Examples) -> list[Row]:
        if examples.references is None:
            raise PreflightError(f"inputs: {self.name} reads its own data; call read() on it first")
        said = [json.loads(reference) for reference in examples.references]
        return self._prompts(said, cast("list[str]", examples.inputs))

    def _prompts(self, said: Sequence[Mapping[str, Any]], texts: Sequence[str] | None = None) -> list[Row]:
        """The tokens of prompts; where there are ``texts``, with these in place of what a user said there."""
        texts = [one[self.read_as] for one in said] if texts is None else texts
        if self._template is None:
            rows = self._tokens.rows(cast("list[Text]", texts))
        else:
            rows = self._template.rows(texts, [one.get("before", ()) for one in said])
        fixed = [[int(f or i in self._reserved) for i, f in zip(row.ids, row.fixed, strict=True)] for row in rows]
        return [replace(row, fixed=one) for row, one in zip(rows, fixed, strict=True)]

    def _target(self, said: Mapping[str, Any]) -> Target:
        reference = said["reference"]
        if reference is not None:
            return Target(reference, torch.tensor(self._tokens.pieces([reference])[0], device=self.device))
        (row,) = self._prompts([said])
        most = self._most if self._holds.form == "consistency" else min(_OWN, self._most)
        (ids,) = self._answered(row, most)
        room = most if self._tokens.limit is None else min(most, self._tokens.limit - len(row.ids))
        # With less than was allowed, it came to its end.
        whole = len(ids) <= _OWN and (len(ids) < room or room == self._most)
        return Target(self._tokens.texts(ids.unsqueeze(0))[0], ids[:_OWN], whole=whole)

    @torch.no_grad()
    def _looked_at(self, rows: Sequence[Row]) -> None:
        super()._looked_at(rows)
        for row in rows if not self.in_one_pass else ():
            target = self._targets[row.others[KEY][0]]
            if target.whole:
                # A configuration may ask for more than the first choice: a penalty for repetitions, say.
                plain = bool(_foretold(self._by_ids(row), self._labels(self._columns(row))))
                self._targets[row.others[KEY][0]] = replace(target, whole=plain)

    def _completed(self, row: Row, examples: Examples, i: int) -> Row:
        self._check_room(row, 1)
        row = super()._completed(row, examples, i)
        keys = row.others[KEY]
        ids = self._targets[keys[0]].ids.tolist()
        self._check_room(row, len(ids))
        return Row(
            row.ids + ids,
            None if row.types is None else row.types + [0] * len(ids),
            row.fixed + [1] * len(ids),
            None if row.places is None else row.places + [None] * len(ids),
            {KEY: keys + keys[:1] * len(ids), _LABEL: [IGNORED] * len(row.ids) + ids},
        )

    def _check_room(self, row: Row, more: int) -> None:
        """Raises PreflightError for a prompt without tokens, or after which the model has no room for so many ``more``."""
        limit = self._tokens.limit
        if not row.ids:
            raise PreflightError("inputs: a prompt has no tokens for this tokenizer; drop it")
        if row.cut or (limit is not None and len(row.ids) + more > limit):
            size = f"more than {limit}" if row.cut else f"{len(row.ids)}"
            raise PreflightError(
                f"inputs: a prompt of {size} tokens leaves no room for what follows, of {more}: {self.name} takes {limit}; "
                "shorten the prompts or the references"
            )

    def _answered(self, row: Row, most: int) -> Tensor:
        """(1, T) tokens of the answer to the prompt of a row."""
        self._check_room(row, 1)
        return self._generated({"input_ids": torch.tensor([row.ids], device=self.device)}, most)

    def _generated(self, given: Mapping[str, Tensor], most: int) -> Tensor:
        (prompts,) = given.values()
        length, limit = prompts.shape[1], self._tokens.limit
        ids = super()._generated(given, most if limit is None else min(most, limit - length))
        return ids[:, length:] if "input_ids" in given else ids

    def _read_lengths(self, context: Mapping[str, Tensor]) -> list[int]:
        written = (context[_LABEL] != IGNORED).sum(1)
        lengths: list[int] = (context["attention_mask"].sum(1) - written).tolist()
        return lengths

    def _arguments(self, context: dict[str, Tensor]) -> dict[str, Tensor]:
        arguments: dict[str, Any] = super()._arguments(context)
        if "logits_to_keep" in self._accepts:
            # Those of the prompts are not looked at, and with a large vocabulary they are most of the memory.
            arguments["logits_to_keep"] = self._labels(context).shape[1]
        return arguments

    def _labels(self, context: Mapping[str, Tensor]) -> Tensor:
        """From the last token of the shortest prompt on: each token is foretold at the one before it."""
        labels = context[_LABEL]
        first = int((labels != IGNORED).int().argmax(1).min()) - 1
        return torch.cat([labels[:, first + 1 :], torch.full_like(labels[:, :1], IGNORED)], 1)

    def _margin(self, x: Tensor, context: dict[str, Tensor]) -> Tensor:
        if self._holds.form == "nll":
            return super()._margin(x, context)
        labels = self._labels(context)
        logits = self._seen(self._entry_of(context), x, context)
        nll, foretold = self._nll(logits, labels), _foretold(logits, labels)
        likely = 1 / (1 + nll)
        if self._holds.form == "avoids":
            # Led by all tokens: the lead at the one that is hardest to win says nothing of the others.
            return torch.where(foretold, -likely, nll)
        answers = zip(self._answers(x, context, foretold), self._targets_of(context), strict=True)
        holds = torch.tensor([self._is_as_it_should(*pair) for pair in answers], device=x.device)
        # Away from 0 by 1: no likelihood turns what the answer says.
        return torch.where(holds, likely + 1, likely - 2)

    def _is_as_it_should(self, answer: str, target: Target) -> bool:
        if self._judge is None:
            return self._value(answer, target) >= self._holds.limit
        return is_refusal(self._judge, answer) == (self._holds.form == "refuses")

    def _answers(self, x: Tensor, context: dict[str, Tensor], foretold: Tensor) -> list[str]:
        """What is written; where each token of the whole answer to the prompt as it is stays the first choice, that."""
        targets = self._targets_of(context)
        stays = [target.whole and same for target, same in zip(targets, foretold.tolist(), strict=True)]
        others = [i for i, same in enumerate(stays) if not same]
        answers = [target.text for target in targets]
        if others:
            written = self._written(x[others], {name: column[others] for name, column in context.items()})
            for i, answer in zip(others, written, strict=True):
                answers[i] = answer
        return answers


def _foretold(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) bool: greedy decoding writes the target, as each of its tokens is the first choice after those before it."""
    first = logits[:, -labels.shape[1] :].argmax(2)
    return ((first == labels) | (labels == IGNORED)).all(1)


def _is_conversation(item: object) -> bool:
    return isinstance(item, (list, tuple)) and len(item) > 0 and all(isinstance(message, Mapping) for message in item)
