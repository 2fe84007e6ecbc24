"""Projects small enough to run whole in a few seconds: short reviews with good or bad words in them, and short news."""

from __future__ import annotations

import csv
import random
from pathlib import Path

TOML = """\
seed = 0

[scope]
use_case = "Say whether a film review is positive or negative"
data = "reviews.csv"
input = "text"
target = "label"
labels = {{ pos = "Positive", neg = "Negative" }}
split = {{ dev = 24, test = 16 }}
metrics = ["accuracy", "f1_macro"]
success = {{ accuracy = 0.5 }}

[select]
models = ["{model}"]
baselines = ["majority", "tfidf"]

[adapt.prompt]
instruction = "Classify:"
answer = "Sentiment:"
shots = [0, 2]
shot_seeds = [0, 1]
rules = ["generate", "likelihood", "calibrated"]

[adapt.lora]
rank = 2
micro_batch_size = 4
learning_rate = 0.01

[apply.generation]
max_new_tokens = 3
"""

TEXT_TOML = """\
[scope]
use_case = "Say in a line what happened"
task = "summarization"
data = "news.csv"
input = "text"
target = "summary"
split = {{ dev = 12, test = 8 }}
success = {{ rougeL = 0.3 }}

[select]
models = ["{model}"]

[adapt.prompt]
instruction = "Text:"
answer = "Summary:"
shots = [0, 2]
shot_seeds = [0, 1]

[adapt.lora]
rank = 2
micro_batch_size = 4
learning_rate = 0.01

[apply.generation]
max_new_tokens = 6
"""
HEAD_TOML = TOML.replace(
    "[adapt.lora]\nrank = 2\nmicro_batch_size = 4\nlearning_rate = 0.01\n",
    '[adapt.head]\nmodels = ["encoder"]\nepochs = 2\nmicro_batch_size = 8\nlearning_rate = 0.005\n',
).replace('"{model}"', '"encoder"')

GOOD, BAD = ["good", "great", "warm", "fine", "true"], ["bad", "poor", "dull", "cold", "weak"]

WORDS = ["film", "plot", "warm", "funny", "true", "dull", "worse"]


def review(number: int, seed: int = 0) -> tuple[str, str]:
    """A review and its label, the same for the same number."""
    draw = random.Random(f"{seed}/{number}")
    label = "pos" if draw.random() < 0.5 else "neg"
    return f"{' '.join(draw.choices(GOOD if label == 'pos' else BAD, k=3))} film {number}", label


def news(number: int) -> tuple[str, str]:
    """A text and its summary, the same for the same number."""
    draw = random.Random(number)
    first, second = draw.sample(WORDS, 2)
    return f"A {first} and {second} take {number}. Nobody should miss it.", f"{first} and {second}"


def write_rows(file: Path, rows: list[tuple[str, str]], columns: tuple[str, str] = ("text", "label")) -> None:
    """A csv file of reviews, or of news."""
    with file.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(columns)
        writer.writerows(rows)
