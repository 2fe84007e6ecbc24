"""Small random encoders of transformers, saved with small tokenizers, for tests of reading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import CORPUS
from tokenizers import ByteLevelBPETokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

SIZES = {
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 40,
    "max_position_embeddings": 80,
}
DISTIL_SIZES = {"dim": 24, "n_heads": 4, "n_layers": 2, "hidden_dim": 40, "max_position_embeddings": 80}
SENTENCES = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXTS = [
    "A film that is warm, funny and true.",
    "The plot was dull and the acting was worse; nobody should miss it!",
    "I loved this movie",
    "U.S. naïve 0123456789",
    "system user assistant on with as in",
]


def write_wordpiece(folder: Path) -> None:
    """vocab.txt of the corpus: its characters, and its words cut in two.

    Not trained: the trainer breaks ties at random, and no two processes would test the same model.
    """
    normalizer, splitter = BertNormalizer(), BertPreTokenizer()
    texts = [normalizer.normalize_str(text) for text in CORPUS]
    words = [word for text in texts for word, _ in splitter.pre_tokenize_str(text)]
    pieces = [cut for word in words for cut in (*word, *(f"##{letter}" for letter in word))]
    pieces += [cut for word in words for cut in (word[:4], f"##{word[4:]}") if cut != "##"]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys([*special, *pieces])) + "\n", encoding="utf-8")


def write_byte_level(folder: Path) -> None:
    """vocab.json and merges.txt of a tokenizer trained on the corpus."""
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS * 4, vocab_size=400, show_progress=False, special_tokens=SENTENCES)
    tokenizer.save_model(str(folder))


def save_encoder(folder: Path, kind: str, **config: Any) -> Path:
    """A random model of transformers, named by its class, with its tokenizer as transformers saves it."""
    torch.manual_seed(0)
    if kind.startswith("Roberta"):
        write_byte_level(folder)
        tokenizer: Any = transformers.RobertaTokenizer.from_pretrained(folder)
    else:
        write_wordpiece(folder)
        tokenizer = transformers.BertTokenizer.from_pretrained(folder)
    family = next(name for name in ("DistilBert", "Roberta", "Bert") if kind.startswith(name))
    sizes = dict(DISTIL_SIZES if family == "DistilBert" else SIZES)
    if family == "Roberta":
        sizes["max_position_embeddings"] += 2
    settings = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id, **sizes, **config}
    model = getattr(transformers, kind)(getattr(transformers, f"{family}Config")(**settings))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    for module in model.modules():
        if isinstance(module, torch.nn.LayerNorm):
            torch.nn.init.normal_(module.weight, mean=1.0, std=0.2)  # around 0 no text would differ much from another
    model.tie_weights()
    for file in folder.iterdir():
        file.unlink()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
