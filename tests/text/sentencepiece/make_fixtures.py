"""Train the small SentencePiece models beside this file and write down what the library makes of tricky texts.

Run by hand, with `pip install sentencepiece`: the fixtures are the outside truth, so that no test needs the library.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
REVIEWS = HERE.parents[2] / "examples" / "reviews" / "reviews.csv"
RULES = {"\ufb01": "fi", "\u00bd": "1/2", "\u00a0": " ", "\t": " ", "\n": " ", "\u200b": "", "\u0130": "I"}
TEXTS = [
    "A film that is warm, funny and true.",
    "Hello, World! I'm sure they'll say it's 12345",
    "  leading\n\n and   trailing \t ",
    "na\u00efve \u00c9COLE \u65e5\u672c\u8a9e \ufb01n \U0001f3ac\U0001f44d\U0001f3fd \u00bd \u0130stanbul",
    "\u200b\u00a0x\r\n",
    "\u2581",
    "\u2581\u2581a \u2581b",
    "a  b   c",
    "   ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "un<sep>known <sep> pieces<sep>",
    "thethethe the THE The",
    "...!!! --- ???",
    "\u65e5\u672c\u65e5\u672c",
    "x\u65e5 y",
    "1/2 and \u00bd",
    "film film film",
    "unbelievably bittersweet storytelling",
    "Classify this review: I loved this movie! Sentiment:",
    "tab\tnew\nline",
    "\u00e9\u00e8\u00ea",
    "end ",
    " start",
]


def main() -> None:
    with REVIEWS.open(encoding="utf-8", newline="") as file:
        sentences = [row["text"] for _, row in zip(range(1500), csv.DictReader(file), strict=False)]
    rules = HERE / "rules.tsv"
    lines = (
        " ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target)
        for source, target in RULES.items()
    )
    rules.write_text("\n".join(lines) + "\n")
    shared = {"sentence_iterator": None, "user_defined_symbols": ["<sep>"], "character_coverage": 0.999}
    models = {
        "unigram": {"model_type": "unigram", "vocab_size": 500, "normalization_rule_tsv": str(rules)}
        | {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
        "bpe": {"model_type": "bpe", "vocab_size": 500, "normalization_rule_tsv": str(rules)},
        "bpe_bytes": {"model_type": "bpe", "vocab_size": 700, "byte_fallback": True}
        | {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    }
    expected = {}
    for name, settings in models.items():
        options = {**shared, **settings, "sentence_iterator": iter(sentences), "model_prefix": str(HERE / name)}
        sentencepiece.SentencePieceTrainer.train(**options, minloglevel=2)
        (HERE / f"{name}.vocab").unlink()
        processor = sentencepiece.SentencePieceProcessor(model_file=str(HERE / f"{name}.model"))
        expected[name] = {text: processor.encode(text) for text in TEXTS}
    rules.unlink()
    text = json.dumps(expected, ensure_ascii=True, indent=1)
    (HERE / "expected.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
