"""Sizes in config.json that no weights have: refused at once, before anything of that size is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from test_families_folders import make_folder

SIZES: dict[str, tuple[str, ...]] = {
    "BertForSequenceClassification": (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "type_vocab_size",
        "num_labels",
    ),
    "BartForConditionalGeneration": ("d_model", "encoder_layers", "decoder_ffn_dim", "max_position_embeddings"),
    "MarianMTModel": ("d_model", "vocab_size"),
    "T5ForConditionalGeneration": ("d_kv", "num_heads", "num_decoder_layers", "relative_attention_num_buckets"),
    "GPT2LMHeadModel": ("n_positions", "n_inner", "n_layer"),
    "Gemma3ForCausalLM": ("head_dim", "num_attention_heads", "num_hidden_layers", "intermediate_size"),
}
SCRIPT = """
import json, resource, sys
from pathlib import Path
from germinal.checkpoints.formats import read
from germinal.errors import GerminalError

folder, keys = Path(sys.argv[1]), sys.argv[2:]
config = json.loads((folder / "config.json").read_text())
read(folder)  # imports, once
before = resource.getrusage(resource.RUSAGE_SELF)
for key in keys:
    for size in (2_000_000_000, 1_000_000, 10**18):
        (folder / "config.json").write_text(json.dumps({**config, key: size}))
        try:
            read(folder)
        except GerminalError:
            continue
        raise AssertionError(f"{key} = {size} was taken")
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_maxrss - before.ru_maxrss)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="counts memory as Linux does")
@pytest.mark.parametrize("kind", SIZES)
def test_a_size_that_no_weights_have(kind: str, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, kind)
    command = [sys.executable, "-c", SCRIPT, str(folder), *SIZES[kind]]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert int(done.stdout) < 100_000  # KiB
