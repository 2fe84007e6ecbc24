"""Beam search: the likeliest answer is looked for along several beams at once (Sutskever et al. 2014, arXiv 1409.3215).

The rules are those of transformers: every step takes the best continuations of all beams together; those that end are
kept as hypotheses if they are among the best `num_beams`, the others go on. A hypothesis counts

    sum of log p(token) / (number of tokens, the end included) ** length_penalty

Log-probabilities are those after bias, penalties and forced tokens, which `renormalize_logits` makes add up to 1 again.

The sequence that leads a search is its first beam, the others are sequences of their own in the scheduler, each in a
slot of the cache. Beams that go on from another one get its slot or a copy of it (`Scheduler.regroup`).

Shapes: B beams, V vocabulary, C candidates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from germinal.generation.config import GenerationConfig
from germinal.generation.sampler import Sampler, check_finite, processed
from germinal.generation.scheduler import Scheduler
from germinal.generation.sequence import Sequence

IMPOSSIBLE = -1.0e9
"""The score of a beam that must not go on: all but one before the first token, since all are the same."""


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """A finished answer: its score and its tokens, the end-of-sequence token included."""

    score: float
    token_ids: tuple[int, ...]


class BeamSearch:
    """One search, in the middle of its way.

    Args:
        lead: The sequence whose answer is looked for; its prompt has been computed.
        window: The context window.

    Attributes:
        beams: The sequences that run for it, `lead` first.
        hypotheses: Finished answers, best first, at most `num_beams`.
        finished: Whether the best answer is known.
    """

    def __init__(self, lead: Sequence, window: int) -> None:
        config = lead.config
        self.lead = lead
        self.config = config
        self.most_tokens = min(config.max_new_tokens, window - len(lead.prompt_ids))
        alone = GenerationConfig(max_new_tokens=config.max_new_tokens)
        others = (
            Sequence(lead.prompt_ids, alone, adapter=lead.adapter, encoder_input_ids=lead.encoder_input_ids)
            for _ in range(1, config.num_beams)
        )
        self.beams = (lead, *others)
        for each in self.beams:
            each.search = self
        self.hypotheses: list[Hypothesis] = []
        self.finished = False
        self._answers: list[list[int]] = [[] for _ in self.beams]
        self._scores = torch.full((config.num_beams,), IMPOSSIBLE)
        self._scores[0] = 0.0
        self._rows: dict[Sequence, Tensor] = {}

    def give(self, beam: Sequence, logits: Tensor) -> None:
        """Hand a beam's logits [V] over; before the first token those of the lead stand for all beams."""
        self._rows |= dict.fromkeys(self.beams if not self._answers[0] else (beam,), logits)

    @property
    def ready(self) -> bool:
        """Whether the logits of every beam are there."""
        return len(self._rows) == len(self.beams)

    def advance(self) -> list[int]:
        """Bring all beams one token further; the number of the beam that each goes on from."""
        first = not self._answers[0]
        logprobs = self._logprobs(torch.stack([self._rows[beam] for beam in self.beams]))  # [B, V]
        self._rows.clear()
        scores, parents, tokens = self._candidates(logprobs)
        eos_ids = self.config.eos_ids or ()
        answers = [[*self._answers[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        ends = [answer[-1] in eos_ids or len(answer) >= self.most_tokens for answer in answers]
        self._keep(scores, answers, ends)
        going_on = (scores + torch.tensor(ends) * IMPOSSIBLE).topk(len(self.beams))
        chosen = going_on.indices.tolist()
        self._scores = going_on.values
        self._answers = [answers[number] for number in chosen]
        self.finished = all(ends) or not self._may_improve()
        return [0 if first else parents[number] for number in chosen]

    @property
    def best(self) -> tuple[int, ...]:
        """Tokens of the best answer."""
        return self.hypotheses[0].token_ids

    def answer(self, beam: int) -> list[int]:
        """Tokens of a beam after the prompt."""
        return self._answers[beam]

    def _logprobs(self, logits: Tensor) -> Tensor:
        """What the processors leave of the beams' logits [B, V], as log-probabilities."""
        check_finite(logits.amax(-1))
        logprobs = logits.log_softmax(-1)
        if not self.lead.sampler.processors:
            return logprobs
        # Beams change places, so that what a sampler has counted of one beam's past is of no use in the next step.
        samplers = [Sampler(self.config, self.lead.prompt_ids) for _ in self.beams]
        left = processed(logprobs, samplers, self._answers)
        return left.log_softmax(-1) if self.config.renormalize_logits else left

    def _candidates(self, logprobs: Tensor) -> tuple[Tensor, list[int], list[int]]:
        """The best continuations, best first: score [C], beam and token of each. So many that, were each beam ended by
        every end-of-sequence token, as many as there are beams would still go on.
        """
        count = max(2, 1 + len(self.config.eos_ids or ())) * len(self.beams)
        totals = logprobs + self._scores.to(logprobs.device)[:, None]
        scores, places = totals.flatten().topk(min(count, totals.numel()))
        vocab_size = logprobs.shape[-1]
        found = places.tolist()
        return scores.cpu(), [place // vocab_size for place in found], [place % vocab_size for place in found]

    def _keep(self, scores: Tensor, answers: list[list[int]], ends: list[bool]) -> None:
        """Keep the candidates that end, if they are among the first and better than what is kept."""
        number = len(self.beams)
        if self.config.early_stopping is True and len(self.hypotheses) == number:
            return
        found = [
            Hypothesis(score / len(answer) ** self.config.length_penalty, tuple(answer))
            for score, answer, end in zip(scores.tolist()[:number], answers, ends, strict=False)
            if end and score > IMPOSSIBLE / 2
        ]
        self.hypotheses = sorted([*self.hypotheses, *found], key=lambda each: -each.score)[:number]

    def _may_improve(self) -> bool:
        """Whether a beam could still become better than the worst hypothesis.

        How long it could become is not known: "never" takes the longest that helps it, the others its present length,
        which is no bound where the length penalty is above 0 but stops far earlier.
        """
        if len(self.hypotheses) < len(self.beams):
            return True
        if self.config.early_stopping is True:
            return False
        longest = self.config.early_stopping == "never" and self.config.length_penalty > 0
        length = self.most_tokens if longest else len(self._answers[0])
        return bool(self._scores[0].item() / length**self.config.length_penalty > self.hypotheses[-1].score)


def advance_searches(rows: Iterable[tuple[Sequence, Tensor]], scheduler: Scheduler, window: int) -> list[Sequence]:
    """Bring the searches of a step further.

    Args:
        rows: Beams, or sequences whose search begins, each with its logits [V].
        scheduler: Where the beams run.
        window: The context window.

    Returns:
        The sequences whose answer has been found.
    """
    searches: dict[BeamSearch, None] = {}
    for sequence, logits in rows:
        if sequence.search is None:
            BeamSearch(sequence, window)
            scheduler.branch(sequence)
        assert sequence.search is not None
        sequence.search.give(sequence, logits)
        searches[sequence.search] = None
    ended = []
    for search in searches:
        if not search.ready:
            continue
        parents = search.advance()
        if search.finished:
            search.lead.conclude(search.best, window)
            ended.append(search.lead)
            continue
        scheduler.regroup(search.beams, parents)
        for number, beam in enumerate(search.beams):
            beam.go_on_from(search.answer(number))
    return ended
