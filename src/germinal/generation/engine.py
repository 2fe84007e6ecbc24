"""The engine: sequences go in, and each step brings every running one further. Generating, scoring, evaluation and the
server all go through it.

One step: the scheduler picks who runs, the backend turns their tokens into logits, the sampler (or a beam search)
chooses, and what was chosen is appended. The engine sees token ids only, and belongs to one thread.
"""

from __future__ import annotations

import torch
from torch import Tensor

from germinal.errors import SettingError
from germinal.generation.backends.backend import Backend
from germinal.generation.beam_search import advance_searches
from germinal.generation.sampler import choose_batch
from germinal.generation.scheduler import MAX_STEP_TOKENS, Scheduled, Scheduler
from germinal.generation.sequence import Sequence


class Engine:
    """Runs sequences on a backend.

    Args:
        backend: What runs the network.
        max_step_tokens: Tokens a step at most.
    """

    def __init__(self, backend: Backend, max_step_tokens: int = MAX_STEP_TOKENS) -> None:
        self._backend = backend
        self._scheduler = Scheduler(backend, max_step_tokens)

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""
        return self._scheduler.has_work

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; its forks start when its prompt has been computed.

        Raises:
            ContextWindowError: it does not fit the model's context window.
            SettingError: it wants more beams than the backend has slots.
        """
        for each in (sequence, *sequence.forks):
            each.check_fits(self._backend.context_window)
            if each.num_slots > self._backend.num_slots:
                raise SettingError(
                    f"{each.num_slots} beams are more than the {self._backend.num_slots} sequences that run at once.",
                    where="num_beams",
                )
        self._scheduler.add(sequence)

    def cancel(self, sequence: Sequence) -> None:
        """End a sequence and its forks now; their places are free in the next step."""
        for each in (sequence, *sequence.forks):
            if not each.finished:
                self.finish(each, "cancelled")

    def finish(self, sequence: Sequence, reason: str) -> None:
        """End one sequence for a reason that the engine cannot see, as a stop string in its text."""
        assert reason in ("stop", "length", "cancelled")
        sequence.finish_reason = reason  # type: ignore[assignment]  # narrowed by the assert
        self._scheduler.retire(sequence)

    def weights_changed(self) -> None:
        """The network or one of its adapters was changed: what was computed with it is not used again."""
        self._scheduler.slots.forget()
        self._backend.weights_changed()

    @torch.inference_mode()
    def step(self) -> list[Sequence]:
        """Run one step.

        Returns:
            The sequences that got a token or a score, or ended; a beam search gives its answer when it ends.
        """
        scheduled = self._scheduler.schedule()
        if not scheduled:
            return []
        sources = [part.source for part in scheduled if part.source is not None]
        if sources:
            self._backend.encode(sources)
        logits = self._backend.forward([part.chunk for part in scheduled])
        changed = self._advance(scheduled, logits)
        for sequence in changed:
            if sequence.finished:
                self._scheduler.retire(sequence)
        return changed

    def _advance(self, scheduled: list[Scheduled], logits: Tensor) -> list[Sequence]:
        """Hand each sequence its rows of the logits [sum, V]: targets are scored, the others draw a token together."""
        changed: list[Sequence] = []
        drawing: list[tuple[Sequence, int]] = []
        searching: list[tuple[Sequence, Tensor]] = []
        following: list[tuple[Scheduled, Sequence]] = []
        row = 0
        for part in scheduled:
            rows = slice(row, row + part.chunk.num_logits)
            row = rows.stop
            self._scheduler.computed(part)
            beginning = followers_beginning(part)
            following += [(part, fork) for fork in beginning]
            # After the prompt's last token all that follows it is decided by the same logits.
            for sequence, own in (
                (part.sequence, rows),
                *((each, slice(rows.start, rows.start + 1)) for each in beginning),
            ):
                if own.start == own.stop:
                    continue
                if sequence.target_ids is not None:
                    sequence.append_scores(target_logprobs(sequence, logits[own]))
                    changed.append(sequence)
                elif sequence.num_slots > 1 or sequence.search is not None:
                    searching.append((sequence, logits[own.stop - 1]))
                else:
                    drawing.append((sequence, own.stop - 1))
        self._draw(drawing, logits)
        changed += advance_searches(searching, self._scheduler, self._backend.context_window)
        for part, fork in following:
            if not fork.finished:
                self._scheduler.follow(part, fork)
        return [*changed, *(sequence for sequence, _ in drawing)]

    def _draw(self, drawing: list[tuple[Sequence, int]], logits: Tensor) -> None:
        """Choose a token for each sequence from its row of the logits."""
        if not drawing:
            return
        rows = [row for _, row in drawing]
        wanted = logits if rows == list(range(len(logits))) else logits[rows]
        tokens = choose_batch(
            wanted, [sequence.sampler for sequence, _ in drawing], [sequence.token_ids for sequence, _ in drawing]
        )
        for (sequence, _), token in zip(drawing, tokens, strict=True):
            sequence.append(token, self._backend.context_window)


def followers_beginning(part: Scheduled) -> list[Sequence]:
    """The forks of a sequence whose prompt is complete with this step."""
    sequence, chunk = part.sequence, part.chunk
    if not chunk.start < len(sequence.prompt_ids) <= chunk.end:
        return []
    return [fork for fork in sequence.forks if not fork.finished]


def target_logprobs(sequence: Sequence, logits: Tensor) -> list[float]:
    """Log-probabilities of the next targets of a sequence, one for each row of logits [T, V]."""
    assert sequence.target_ids is not None
    first = len(sequence.target_logprobs)
    targets = torch.tensor(sequence.target_ids[first : first + len(logits)], device=logits.device)
    return logits.log_softmax(-1).gather(-1, targets[:, None]).squeeze(-1).tolist()
