"""From the start of a process to the first token on standard output, and the most memory it takes.

Both sides load the same float32 folder, answer the same prompt greedily and print as they go.
"""

from __future__ import annotations

import json
import subprocess
import sys

from bench.harness import ROOT, Row, Setting, model_folder

_PROMPT = "Classify this review:\nI loved this movie, every minute of it!\nSentiment:"
_NEW_TOKENS = 32
_PEER = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer

class Printer:
    def __init__(self):
        self.prompt = True
    def put(self, ids):
        if not self.prompt:
            sys.stdout.write(tokenizer.decode(ids))
            sys.stdout.flush()
        self.prompt = False
    def end(self):
        pass

folder, prompt, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer(prompt, return_tensors="pt")
model.generate(**inputs, max_new_tokens=count, do_sample=False, streamer=Printer())
"""


def measure(setting: Setting) -> list[Row]:
    """Time to first token and peak memory of the same processes."""
    folder = str(model_folder())
    count = str(_NEW_TOKENS)
    ours = [sys.executable, "-m", "germinal", "generate", folder, _PROMPT, "--max-new-tokens", count, "--quiet"]
    peer = [sys.executable, "-c", _PEER, folder, _PROMPT, count]
    _launch(ours), _launch(peer)  # the files are in memory then

    memory: dict[str, list[float]] = {"ours": [], "peer": []}
    texts: dict[str, str] = {}

    def side(name: str, command: list[str]) -> float:
        result = _launch(command)
        memory[name].append(result["peak_bytes"] / 1e6)
        texts[name] = result["text"].strip()
        return float(result["first_token"])

    first_ours, first_peer = setting.in_turn(lambda _: side("ours", ours), lambda _: side("peer", peer))
    note = "same text" if texts["ours"] == texts["peer"] else "DIFFERENT TEXT"
    return [
        Row(
            "process start to first token",
            "s",
            first_ours,
            first_peer,
            "transformers",
            higher_is_better=False,
            goal=0.6,
            note=note,
        ),
        Row(
            "peak memory of that process",
            "MB",
            memory["ours"],
            memory["peer"],
            "transformers",
            higher_is_better=False,
            goal=1.0,
        ),
    ]


def _launch(command: list[str]) -> dict[str, object]:
    launcher = [sys.executable, str(ROOT / "bench" / "launch.py"), *command]
    finished = subprocess.run(launcher, capture_output=True, text=True, check=False)
    if finished.returncode:
        raise RuntimeError(finished.stderr)
    return json.loads(finished.stdout)
