"""From text to token ids: tokenizer (always tied to its model), chat template, prompt, examples, context window.

Nothing here imports torch; the engine never sees text.
"""
