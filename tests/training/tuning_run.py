"""A small tuning run in a process of its own, so that a test can kill it.

python tuning_run.py MODEL FOLDER [SECONDS_PER_STEP]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import germinal
from germinal.layers.lora_config import LoRAConfig
from germinal.progress import Progress
from germinal.training.config import TrainingConfig
from germinal.training.examples import TuningExample, encode_example
from germinal.training.lora import tune_lora

WORDS = ["warm", "dull", "funny", "worse", "true", "bad", "loved", "missed"]
LORA = LoRAConfig(rank=4, dropout=0.2, target_modules=("q_proj", "v_proj", "down_proj"))
CONFIG = TrainingConfig(
    epochs=2, micro_batch_size=4, gradient_accumulation_steps=2, learning_rate=1e-2, save_every=3, evaluate_every=4
)


def examples(lm: germinal.LanguageModel) -> list[TuningExample]:
    """48 reviews of two words; the first decides."""
    pairs = [(first, second) for first in WORDS for second in WORDS if first != second][:48]
    return [
        encode_example(
            lm.tokenizer,
            f"Classify this review: {first} {second} movie. Sentiment:",
            " Positive" if WORDS.index(first) % 2 == 0 else " Negative",
        )
        for first, second in pairs
    ]


def main() -> None:
    model, folder, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.0

    def report(progress: Progress) -> None:
        print(int(progress.done), flush=True)
        time.sleep(pause)

    lm = germinal.load(model)
    tune_lora(lm, examples(lm), LORA, CONFIG, folder, report)


if __name__ == "__main__":
    main()
