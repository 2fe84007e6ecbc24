"""A ledger filled by hand, as a run would: real statistics on answers whose right and wrong ones are drawn from a seed.

No model stands behind it; figures and tests come from scipy and statsmodels, not from the package under test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest
from sklearn.metrics import f1_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from germinal.ledger import Environment, Figure, Ledger, StepRecord
from germinal.ledger.records import Prediction, PredictionLink
from germinal.ledger.tables import CANDIDATE

MODEL = "smollm2-135m-instruct"
USE_CASE = "Say whether a film review is positive or negative"
NASTY = "</script><script>alert('x')</script> & <b>\"bold\"</b> https://example.org/a?b=c\r\nsecond line\u2028 ünï"
LABELS = ("neg", "pos")


@dataclass(frozen=True)
class Spec:
    """A candidate: how often it is right for each of its replicates, and what it costs."""

    id: str
    skill: tuple[float, ...]
    seconds: float = 0.01
    tokens: int = 0
    shots: int | None = None
    rule: str | None = None
    adapter: str | None = None
    memory: int = 310 << 20

    @property
    def baseline(self) -> str | None:
        return self.id if self.rule is None else None

    @property
    def trials(self) -> list[str]:
        return [self.id] if len(self.skill) == 1 else [f"{self.id}/seed-{seed}" for seed in range(len(self.skill))]


def prompted(shots: int, rule: str, *skill: float, adapter: str | None = None) -> Spec:
    name = "zero-shot" if shots == 0 else f"{shots}-shot"
    parts = [MODEL, *([adapter] if adapter else []), name, rule]
    cost = 11.0 + 6 * shots + (9 if rule == "generate" else 0)
    tokens = 41 * 300 + shots * 33 * 40 + (900 if rule == "generate" else 600)
    return Spec(
        "/".join(parts), skill, cost, tokens, shots, rule, adapter, (640 + 30 * shots + (450 if adapter else 0)) << 20
    )


SMALL = (
    Spec("majority", (0.5,)),
    Spec("tfidf", (0.7,), 0.4),
    prompted(0, "generate", 0.4),
    prompted(0, "likelihood", 0.6),
    prompted(4, "calibrated", 0.86, 0.8, 0.88),
    prompted(0, "likelihood", 0.84, adapter="lora-r8"),
)
FULL = (
    Spec("majority", (0.5,)),
    Spec("tfidf", (0.7,), 0.4),
    *(prompted(0, rule, skill) for rule, skill in (("generate", 0.41), ("likelihood", 0.61), ("calibrated", 0.84))),
    *(
        prompted(1, rule, skill, skill + 0.07, skill - 0.1)
        for rule, skill in (("generate", 0.6), ("likelihood", 0.68), ("calibrated", 0.83))
    ),
    *(
        prompted(4, rule, skill, skill + 0.05, skill - 0.06)
        for rule, skill in (("generate", 0.63), ("likelihood", 0.75), ("calibrated", 0.86))
    ),
    *(
        prompted(0, rule, skill, adapter="lora-r8")
        for rule, skill in (("generate", 0.86), ("likelihood", 0.88), ("calibrated", 0.885))
    ),
)


def environment(device: str = "cpu: Example, 2 cores", torch: str = "2.13.0") -> Environment:
    return Environment(
        "0.1.0", "3.11.2", "Linux-x86_64", device, "1909ed1c0ffee", False, {"torch": torch, "numpy": "2.4.6"}
    )


def fill(
    path: Path,
    *,
    specs: tuple[Spec, ...] = SMALL,
    dev: int = 60,
    test: int = 40,
    limit: int | None = None,
    devices: tuple[str, ...] = (),
) -> Ledger:
    """Fill a new ledger with one finished run; the winner is the last candidate of `specs`."""
    return _Filler(Ledger.open(path), specs, dev, test, devices).fill(limit)


def review(index: int) -> str:
    if index == 0:
        return NASTY
    words = ("a warm and funny film", "two hours of nothing", "the cast does what it can", "gorgeous, slow, sincere")
    return f"{words[index % 4]}, and the ending is number {index} of its kind"


class _Filler:
    def __init__(self, ledger: Ledger, specs: tuple[Spec, ...], dev: int, test: int, devices: tuple[str, ...]) -> None:
        self.ledger, self.specs, self.devices = ledger, specs, devices
        self.rng = np.random.default_rng(0)
        self.sizes = {"dev": dev, "test": test}
        rows = [
            {"row_id": f"{index:064x}", "input": review(index), "target": LABELS[index % 2], "group": None}
            for index in range(dev + test)
        ]
        self.rows = {"dev": rows[:dev], "test": rows[dev:]}
        self.right: dict[tuple[str, str, int], list[bool]] = {}
        self.made: dict[str, StepRecord] = {}
        ledger.store_examples(rows)

    def fill(self, limit: int | None) -> Ledger:
        scope = {
            "use_case": USE_CASE,
            "task": "classification",
            "data": "reviews.csv",
            "metrics": ["accuracy", "f1_macro"],
            "success": {"accuracy": 0.8},
        }
        prompt = {"instruction": "Classify this review:", "answer": "Sentiment:", "chat": False}
        config = {"seed": 0, "scope": scope, "adapt": {"prompt": prompt}}
        run = self.ledger.begin_run(config, [], limit, environment())
        splits = {"train": {"rows": 1400, "labels": {"neg": 700, "pos": 700}}}
        for split, size in self.sizes.items():
            splits[split] = {"rows": size, "labels": {"neg": (size + 1) // 2, "pos": size // 2}}
        data = self.step(run, "data", "data", {"splits": splits})
        winner = self.specs[-1]
        trials = list(self.trials(run, data, winner))
        choose = self.step(run, "choose", "choose", self.choice())
        self.ledger.record_trials(run, trials)
        figure = self.figures(winner, "test", (len(winner.skill) - 1,))["accuracy"]
        self.ledger.end_run(
            run,
            "finished",
            {
                "choose": choose,
                "candidates": [spec.id for spec in self.specs],
                "detectable_difference": 0.113,
                "limits": [{"name": "latency_ms", "limit": 300.0, "measured": 412.0, "kept": False}],
                "metrics": [{"name": name, "higher_is_better": True} for name in ("accuracy", "f1_macro")],
                "success": [
                    {"metric": "accuracy", "threshold": 0.8, "verdict": self.verdict(figure), "figure": as_dict(figure)}
                ],
            },
        )
        return self.ledger

    def verdict(self, figure: Figure) -> str:
        assert figure.low is not None
        return "reached" if figure.low >= 0.8 else "not shown" if figure.value >= 0.8 else "missed"

    def trials(self, run: int, data: str, winner: Spec) -> Iterator[dict[str, Any]]:
        position = 0
        for spec in self.specs:
            steps = [self.predicted(run, spec, "dev", replicate) for replicate in range(len(spec.skill))]
            measured = self.measured(run, spec, "dev", range(len(spec.skill)))
            for replicate, (trial, predict) in enumerate(zip(spec.trials, steps, strict=True)):
                roles = {"data": data, "predict/dev": predict, "measure/dev": measured}
                if not spec.baseline:
                    roles["model"] = self.once(f"load {MODEL}") or self.step(
                        run, "model", f"load {MODEL}", {"precision": "float32 (from Q4_1)"}
                    )
                if spec.adapter:
                    history = [
                        {
                            "step": s,
                            "loss": 1.4 / s**0.4,
                            "validation_loss": 1.3 / s**0.3 if s % 5 == 0 else None,
                            "learning_rate": 1e-4,
                        }
                        for s in range(1, 41)
                    ]
                    roles["tune"] = self.once(f"tune {spec.adapter}") or self.step(
                        run, "tune", f"tune {spec.adapter}", {"history": history, "best_step": 35}, seconds=61.0
                    )
                if (spec is winner and replicate == len(spec.skill) - 1) or spec.baseline:
                    roles["predict/test"] = self.predicted(run, spec, "test", replicate)
                    roles["measure/test"] = self.measured(run, spec, "test", (replicate,))
                    self.ledger.look_at_test(run, trial, roles["measure/test"])
                yield {
                    "trial_id": trial,
                    "candidate_id": spec.id,
                    "position": position,
                    "replicate": replicate,
                    "spec": self.spec(spec, replicate),
                    "steps": roles,
                    "estimate": self.estimate(spec),
                }
                position += 1

    def spec(self, spec: Spec, replicate: int) -> dict[str, Any]:
        return {
            "kind": "baseline" if spec.baseline else "model",
            "model": None if spec.baseline else MODEL,
            "baseline": spec.baseline,
            "shots": spec.shots,
            "rule": spec.rule,
            "adapter": spec.adapter,
            "precision": None if spec.baseline else "float32",
            "shot_seed": replicate if spec.shots else None,
        }

    def estimate(self, spec: Spec) -> dict[str, Any] | None:
        if spec.baseline:
            return None
        return {
            "parameters": 134_515_008,
            "weight_bytes": 538_060_032,
            "cache_bytes": 20 << 20,
            "activation_bytes": 30 << 20,
            "memory_bytes": 620 << 20,
            "seconds": spec.seconds * 0.8,
            "tokens": spec.tokens,
            "basis": "measured throughput of this machine",
            "stored_precision": "Q4_1",
        }

    def step(
        self, run: int, kind: str, name: str, values: dict[str, Any], seconds: float = 0.0, memory: int | None = None
    ) -> str:
        key = f"{len(self.made):064x}"
        device = self.devices[len(self.made) % len(self.devices)] if self.devices else "cpu: Example, 2 cores"
        now = datetime.now(UTC)
        record = StepRecord(
            key, key, kind, name, "running", {}, {}, {}, {}, None, 0.0, None, "", environment(device), now, None, None
        )
        self.made[key] = record
        self.ledger.begin_step(record, run)
        self.ledger.finish_step(
            key, outputs={}, values=values, seconds=seconds, peak_memory_bytes=memory, memory_note=""
        )
        return key

    def once(self, name: str) -> str | None:
        return next((key for key, step in self.made.items() if step.name == name), None)

    def predicted(self, run: int, spec: Spec, split: str, replicate: int) -> str:
        rows = self.rows[split]
        # a difficulty that all candidates share makes their errors go together, as they do in life
        difficulty = np.random.default_rng(len(rows)).random(len(rows))
        noise = self.rng.random(len(rows))
        ranks = np.argsort(np.argsort(0.6 * difficulty + 0.4 * noise))
        right = [bool(rank < round(spec.skill[replicate] * len(rows))) for rank in ranks]
        if spec.id == "majority":
            right = [row["target"] == "neg" for row in rows]
        self.right[spec.id, split, replicate] = right
        prompts = [] if spec.baseline else [self.prompt(spec, replicate, row) for row in rows[:5]]
        step = self.step(run, "predict", f"predict {split} {spec.id}", {"prompts": prompts}, spec.seconds, spec.memory)
        kind = "generate" if spec.rule == "generate" else "score"
        predictions = [
            Prediction(
                f"{spec.id}/{split}/{replicate}/{row['row_id']}"[-64:] + str(replicate),
                kind,
                self.output(spec, row, hit),
                0.01,
                None,
            )
            for row, hit in zip(rows, right, strict=True)
        ]
        self.ledger.store_predictions(predictions, run)
        links = [
            PredictionLink(
                row["row_id"], position, *((prediction.key, None) if kind == "generate" else (None, prediction.key))
            )
            for position, (row, prediction) in enumerate(zip(rows, predictions, strict=True))
        ]
        self.ledger.link_predictions(step, links)
        return step

    def prompt(self, spec: Spec, replicate: int, row: dict[str, Any]) -> dict[str, Any]:
        shots = "".join(
            f"Classify this review:\nshot {n} of seed {replicate}\nSentiment: {LABELS[n % 2]}\n\n"
            for n in range(spec.shots or 0)
        )
        text = f"{shots}Classify this review:\n{row['input']}\nSentiment:"
        return {"row_id": row["row_id"], "text": text, "tokens": 41, "dropped_examples": 0, "truncated_tokens": 0}

    def output(self, spec: Spec, row: dict[str, Any], hit: bool) -> dict[str, Any]:
        if spec.rule == "generate":
            return {
                "text": f" {row['target']}" if hit else " What a film!\nReally",
                "token_ids": [1, 2],
                "finish_reason": "length",
            }
        return {"label_logprobs": {"neg": -1.0, "pos": -2.0}}

    def answer(self, spec: Spec, row: dict[str, Any], hit: bool) -> str | None:
        if hit:
            return str(row["target"])
        return None if spec.rule == "generate" else LABELS[1 - LABELS.index(row["target"])]

    def measured(self, run: int, spec: Spec, split: str, replicates: Any) -> str:
        values = {
            "parameters": None if spec.baseline else 134_515_008,
            "tokens_per_example": spec.tokens / 300,
            "work": spec.tokens / 300 * 134_515_008,
            "replicates": [{"prompt_tokens": spec.tokens, "generated_tokens": 0, "scored_tokens": 0}] * len(spec.skill),
        }
        if len(spec.skill) > 1 and split == "dev":
            values["spread"] = {metric: self.spread(spec, metric) for metric in ("accuracy", "f1_macro")}
        step = self.step(run, "measure", f"measure {split} {spec.id}", values)
        for stored, replicate in enumerate(replicates):
            self.ledger.store_answers(step, stored, self.answers(spec, split, replicate))
            self.ledger.store_measurements(step, stored, self.figures(spec, split, (replicate,)))
        self.ledger.store_measurements(step, CANDIDATE, self.figures(spec, split, tuple(replicates)))
        return step

    def answers(self, spec: Spec, split: str, replicate: int) -> list[dict[str, Any]]:
        stored = []
        for position, (row, hit) in enumerate(
            zip(self.rows[split], self.right[spec.id, split, replicate], strict=True)
        ):
            answer = self.answer(spec, row, hit)
            sure = 0.55 + 0.4 * ((position * 37) % 100) / 100
            probabilities = (
                None
                if spec.rule in (None, "generate")
                else {label: sure if label == answer else 1 - sure for label in LABELS}
            )
            output = self.output(spec, row, hit)
            stored.append({
                "row_id": row["row_id"], "position": position, "answer": answer, "text": output.get("text"),
                "probabilities": probabilities, "error": None if answer else "no label in the text", "correct": hit,
            })  # fmt: skip
        return stored

    def figures(self, spec: Spec, split: str, replicates: tuple[int, ...]) -> dict[str, Figure]:
        rows = self.rows[split]
        right = np.array([self.right[spec.id, split, replicate] for replicate in replicates])
        value = float(right.mean())
        if len(replicates) == 1:
            low, high = proportion_confint(int(right.sum()), right.size, method="wilson")
            method = "wilson"
        else:
            samples = np.random.default_rng(1).integers(0, len(rows), (400, len(rows)))
            low, high = np.quantile(right.mean(axis=0)[samples].mean(axis=1), [0.025, 0.975])
            method = "bootstrap"
        targets = [row["target"] for row in rows]
        given = [[self.answer(spec, row, hit) or "none" for row, hit in zip(rows, hits, strict=True)] for hits in right]
        scores = [f1_score(targets, answers, labels=LABELS, average="macro", zero_division=0) for answers in given]
        f1 = float(np.mean(scores))
        return {
            "accuracy": Figure(value, float(low), float(high), len(rows), method),
            "f1_macro": Figure(f1, max(0.0, f1 - 0.06), min(1.0, f1 + 0.05), len(rows), "bootstrap"),
        }

    def spread(self, spec: Spec, metric: str) -> dict[str, Any]:
        values = [self.figures(spec, "dev", (replicate,))[metric].value for replicate in range(len(spec.skill))]
        return {"low": min(values), "high": max(values), "deviation": float(np.std(values, ddof=1)), "n": len(values)}

    def choice(self) -> dict[str, Any]:
        index = {spec.id: place for place, spec in enumerate(self.specs)}
        models = [spec for spec in self.specs if not spec.baseline]
        declared = [(spec.id, "tfidf", "baseline") for spec in models]
        zero_shot = [spec.id for spec in models if spec.shots == 0 and spec.rule == "likelihood"][:1]
        declared += [(spec.id, other, "zero-shot") for spec in models for other in zero_shot if spec.id != other]
        p_values = [self.mcnemar(first, second) for first, second, _ in declared]
        adjusted = multipletests(p_values, method="holm")[1] if p_values else []
        comparisons = [
            {
                "first": index[first],
                "second": index[second],
                "metric": "accuracy",
                "difference": (gap := self.gap(first, second)),
                "low": gap - 0.08,
                "high": gap + 0.08,
                "p_value": p,
                "p_adjusted": float(holm),
                "test": "exact McNemar",
                "role": role,
                "exploratory": False,
                "n": self.sizes["dev"],
            }
            for (first, second, role), p, holm in zip(declared, p_values, adjusted, strict=True)
        ]
        winner = self.specs[-1]
        return {
            "comparisons": comparisons,
            "metric": "accuracy",
            "best": index[winner.id],
            "tied": [index[spec.id] for spec in self.specs if abs(self.gap(spec.id, winner.id)) < 0.07],
            "winner": index[winner.id],
            "winner_replicate": len(winner.skill) - 1,
            "reason": "least work among the tied",
        }

    def gap(self, first: str, second: str) -> float:
        return float(self.score(first).mean() - self.score(second).mean())

    def score(self, candidate: str) -> Any:
        return np.mean(
            [right for (name, split, _), right in self.right.items() if (name, split) == (candidate, "dev")], axis=0
        )

    def mcnemar(self, first: str, second: str) -> float:
        one, other = self.score(first) >= 0.5, self.score(second) >= 0.5
        only_first, only_second = int((one & ~other).sum()), int((~one & other).sum())
        if only_first + only_second == 0:
            return 1.0
        return float(binomtest(only_first, only_first + only_second).pvalue)


def as_dict(figure: Figure) -> dict[str, Any]:
    return {name: getattr(figure, name) for name in ("value", "low", "high", "n", "method", "level")}
