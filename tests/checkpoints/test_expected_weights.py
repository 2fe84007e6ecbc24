"""What a config needs of weights: found from one layer a stack, and from no config whose sizes no weights have."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_families_folders import make_folder

from germinal.checkpoints.expected_weights import expected_shapes
from germinal.models.families import FAMILIES
from germinal.models.families.sizes import SIZES as PUBLISHED
from germinal.models.transformer import Transformer

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

grown = 0
for line in sys.stdin:
    folder, *keys = line.split()
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    read(path.parent)  # imports, once
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for key in keys:
        for size in (2_000_000_000, 1_000_000, 10**18):
            path.write_text(json.dumps({**config, key: size}))
            try:
                read(path.parent)
            except GerminalError:
                continue
            raise AssertionError(f"{key} = {size} was taken")
    grown = max(grown, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
print(grown)
"""


@pytest.mark.skipif(not Path("/proc").exists(), reason="counts memory as Linux does")
def test_a_size_that_no_weights_have_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    lines = [" ".join((str(make_folder(tmp_path / kind, kind)), *keys)) for kind, keys in SIZES.items()]
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True, timeout=300)
    assert int(done.stdout) < 100_000  # KiB


@pytest.mark.parametrize("family", FAMILIES)
def test_one_layer_a_stack_tells_the_names_and_shapes_of_all(family: str) -> None:
    size = next(size.config for size in PUBLISHED if size.family == family)
    encoder = {"num_encoder_layers": 2} if size.stacks == "encoder-decoder" else {}
    config = replace(size, num_layers=3, windowed_layers=None, **encoder)
    network = Transformer(config, device="meta").state_dict()
    assert list(expected_shapes(config).items()) == [(name, tuple(tensor.shape)) for name, tensor in network.items()]
