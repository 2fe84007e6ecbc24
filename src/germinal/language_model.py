"""A language model as its user meets it: network, tokenizer, chat template and generation defaults in one object.

A facade: `germinal.writing` does the work where texts are written, `germinal.reading` where they are only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as SequenceOf
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from germinal.checkpoints import formats, peft_folder
from germinal.checkpoints.cards import ModelCard
from germinal.checkpoints.checkpoint import Checkpoint
from germinal.checkpoints.fingerprint import fingerprint
from germinal.checkpoints.head_config import HeadConfig
from germinal.generation.config import GenerationConfig
from germinal.generation.distribution import NextTokenDistribution
from germinal.layers.adapters import base_state_dict, refuse_virtual_tokens, routed, virtual_ids
from germinal.models.config import TransformerConfig
from germinal.models.families import Family
from germinal.models.inspection import AttentionMaps
from germinal.models.transformer import Transformer
from germinal.progress import Reporter, silent
from germinal.reading import classes, logits, masks, next_token, vectors
from germinal.reading.logits import Ids, Inputs
from germinal.reading.reader import Reader, Text
from germinal.reading.vectors import Vectors
from germinal.text.chat_template import ChatTemplate
from germinal.text.chat_template_files import variables
from germinal.text.content import Content, encode_prompt, is_chat
from germinal.text.tokenizer import Tokenizer
from germinal.writing.request import Request, Response
from germinal.writing.writer import Writer


class LanguageModel:
    """A network with all that belongs to it; made by `germinal.load`.

    Attributes:
        network: The Transformer.
        tokenizer: Its tokenizer.
        family: The family that its config and weight names follow.
        hf_generation_config: generation_config.json as published.
        card: Name, licence, source.
        head_config: The names of its classes, and how its vectors are pooled.
        precision: The dtype of the weights, and how the file stores them if that differs: "float32 (from Q4_1)".
        reference: What `germinal.load` finds the model by again; None when it was not loaded by one.
        adapter: Name of the adapter that all calls go through, or None.
        two_stacks: Whether it is an encoder-decoder: the encoder reads the prompt, the decoder writes the answer.
        writer: What `generate`, `stream`, `score` and `respond` go through.
    """

    def __init__(self, network: Transformer, checkpoint: Checkpoint, reference: str | None = None) -> None:
        dtype = str(network.dtype).removeprefix("torch.")
        stored = checkpoint.card.stored_precision
        self.network = network
        self.tokenizer: Tokenizer = checkpoint.tokenizer
        self.family: Family = checkpoint.family
        self.card: ModelCard = checkpoint.card
        self.head_config: HeadConfig = checkpoint.head_config
        self.precision = dtype if stored in (None, dtype) else f"{dtype} (from {stored})"
        self.reference = reference
        self.adapter: str | None = None
        self.hf_generation_config = checkpoint.generation_config
        self.two_stacks = self.config.stacks == "encoder-decoder"
        self.writer = Writer(network, self.tokenizer, self.hf_generation_config, self.card.name)
        self._checkpoint_path = checkpoint.path

    @property
    def config(self) -> TransformerConfig:
        """What the network is built from."""
        return self.network.config

    @property
    def context_window(self) -> int:
        """The most tokens of a prompt and its answer; of an encoder-decoder, of a prompt. An adapter's virtual tokens
        have taken their share.
        """
        return self.config.max_position_embeddings - len(virtual_ids(self.network, self.adapter))

    @property
    def chat_template(self) -> ChatTemplate:
        """The tokenizer's; rendering raises a `TemplateError` when the checkpoint has none."""
        return self.tokenizer.template

    @property
    def generation_defaults(self) -> GenerationConfig:
        """The checkpoint's own settings, under those that a call gives."""
        return self.writer.defaults

    @property
    def decoder_start_id(self) -> int:
        """The token that the decoder of an encoder-decoder starts with; a `CheckpointError` when there is none."""
        return self.reader.decoder_start_id

    @property
    def published_reference(self) -> tuple[str | None, str | None]:
        """Where transformers and PEFT find the model: its name on the hub and its revision, or a path and None."""
        path, source = self._checkpoint_path, self.card.source
        if path is None:
            return None, None
        if source is not None and source.startswith("hf:") and path.parent.name == "snapshots":
            return source.removeprefix("hf:"), path.name
        return str(path.resolve()), None

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights' values, the config and the tokenizer. Names and places of files do not count."""
        return fingerprint(base_state_dict(self.network), self.tokenizer, self._checkpoint_path, self.config)

    @property
    def conventions(self) -> dict[str, Any]:
        """How its answers begin and end, in plain values: what they depend on beside weights, config and tokenizer.

        What a model has by default, such as ending at its tokenizer's end token, is left out.
        """
        defaults, tokenizer = self.generation_defaults, self.tokenizer
        ends = () if tokenizer.eos_id is None else (tokenizer.eos_id,)
        found = {
            "chat_template": tokenizer.chat_template,
            "template_variables": {
                name: text for name, text in variables(tokenizer.config).items() if name not in tokenizer.special_tokens
            },
            "eos_ids": None if (defaults.eos_ids or ()) == ends else list(defaults.eos_ids or ()),
            "forced_eos_id": defaults.forced_eos_id,
            "answer_start": list(self.writer.answer_start or ()) if self.config.head == "lm" else [],
        }
        return {name: value for name, value in found.items() if value is not None and value not in ({}, [])}

    @property
    def reader(self) -> Reader:
        """What all other calls go through. It is made anew each time, as `card` and `head_config` may be replaced."""
        return Reader(self.network, self.tokenizer, self.head_config, self.hf_generation_config, self.card.name)

    # Text in, text out

    def generate(self, prompt: Content | SequenceOf[Content], **settings: Any) -> Any:
        """Answer a prompt, or many at once.

        Args:
            prompt: Text, the messages of a chat, or a list of either.
            settings: `GenerationConfig`'s, over the checkpoint's own.

        Returns:
            A `Completion`, or a list of `n` of them if `n` is above 1; for a list of prompts a list of what each gives.

        Raises:
            SettingError: a setting is unknown, out of range or without effect.
            ContextWindowError: a prompt does not fit the context window.
            TemplateError: messages were given and the model has no chat template.
            UnsupportedError: the model does not write texts.
        """
        config = self.writer.generation_config(settings)
        several = isinstance(prompt, list | tuple) and not is_chat(prompt)
        prompts = cast("SequenceOf[Content]", prompt if several else [prompt])
        answers = self.writer.generate(prompts, settings, self.adapter)
        shaped = answers if config.n > 1 else [each[0] for each in answers]
        return shaped if several else shaped[0]

    def stream(self, prompt: Content, **settings: Any) -> Iterator[str]:
        """Answer one prompt, piece by piece; the pieces together are the text that `generate` gives.

        Arguments and errors are those of `generate`; `n` above 1 cannot be streamed.
        """
        yield from self.writer.stream(prompt, settings, self.adapter)

    def score(self, prompt: Content, continuations: SequenceOf[str]) -> list[float]:
        """Log-probability of each continuation given the prompt, in nats, at most 0; errors are those of `generate`."""
        return self.writer.score(prompt, continuations, self.adapter)

    def respond(
        self, requests: Iterable[Request], reporter: Reporter = silent, task: str = "answer"
    ) -> Iterator[tuple[int, Response]]:
        """Each request's number and response, as they finish; arguments and errors are those of `Writer.respond`."""
        return self.writer.respond(requests, reporter, task)

    def encode_prompt(self, prompt: Content) -> tuple[int, ...]:
        """Token ids of a prompt; errors are those of `text.content.encode_prompt`."""
        writes_on = self.config.stacks == "decoder" and self.config.head == "lm"
        return encode_prompt(prompt, self.tokenizer, answered=writes_on)

    # Texts read, nothing written

    def encode(
        self,
        texts: Text | Iterable[Text],
        pooling: str | None = None,
        normalize: bool | None = None,
        reporter: Reporter = silent,
        prompt: str | None = None,
    ) -> Vectors:
        """One vector for each text, float32 [N, D]; arguments and errors are those of `reading.vectors.encode`."""
        with self._adapted("give vectors"):
            return vectors.encode(self.reader, _texts(texts), pooling, normalize, reporter, prompt)

    def classify(self, texts: Text | Iterable[Text], reporter: Reporter = silent) -> Any:
        """The class of each text, or of each of its words, by the model's own head.

        Args:
            texts: A text, a pair of texts (a tuple), or a list of either.

        Returns:
            A `Classification`, or a `TokenClassification` if the head classifies tokens; a list for a list.

        Errors are those of `reading.classes.classify`.
        """
        with self._adapted("classify"):
            found = classes.classify(self.reader, _texts(texts), reporter)
        return found[0] if isinstance(texts, str | tuple) else found

    def reward(self, answers: Content | tuple[str, str] | SequenceOf[Content], reporter: Reporter = silent) -> Any:
        """How good one answer or several are by a reward model: a number of any size, the higher the better.

        Args:
            answers: A chat that ends with the answer, a text in the form that the model was trained on, or a list.

        Returns:
            A float; a list for a list.

        Errors are those of `reading.classes.rewards`.
        """
        several = isinstance(answers, list) and not is_chat(answers)
        with self._adapted("rate answers"):
            found = classes.rewards(self.reader, cast("list[Any]", answers if several else [answers]), reporter)
        return found if several else found[0]

    def answer(self, question: str, context: str) -> classes.Answer:
        """The part of a passage that answers a question; errors are those of `reading.classes.answer`."""
        with self._adapted("answer by a span"):
            return classes.answer(self.reader, question, context)

    def fill_mask(self, text: str, top_k: int = 5) -> list[list[masks.Filling]]:
        """The likeliest words for each mask of a text; errors are those of `reading.masks.fill_mask`."""
        with self._adapted("fill masks"):
            return masks.fill_mask(self.reader, text, top_k)

    def attention_maps(self, text: Content, target: str | None = None) -> AttentionMaps:
        """The attention while the model reads a text, [L, H, T, S]; as `reading.next_token.attention_maps`."""
        with self._adapted("show its attention"):
            return next_token.attention_maps(self.reader, text, target)

    def next_token_distribution(
        self, text: Content, target: str | None = None, **settings: Any
    ) -> NextTokenDistribution:
        """How the token after a text is chosen, setting by setting; as `reading.next_token.next_token_distribution`."""
        config = self.writer.generation_config(settings)
        with self._adapted():
            return next_token.next_token_distribution(self.reader, config, text, target)

    # Tensors in, tensors out

    def logits(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        decoder_input_ids: Ids | None = None,
        *,
        prefix_mask: Ids | None = None,
        document_ids: Ids | None = None,
        decoder_document_ids: Ids | None = None,
    ) -> Tensor:
        """Logits [B, T, V], float32, of token ids [B, T].

        Arguments are those of `reading.logits.Inputs`, errors those of `reading.logits.logits`.
        """
        inputs = Inputs(input_ids, attention_mask, decoder_input_ids, prefix_mask, document_ids, decoder_document_ids)
        with self._adapted():
            return logits.logits(self.reader, inputs)

    def loss(
        self,
        input_ids: Ids,
        attention_mask: Ids | None = None,
        labels: Ids | None = None,
        decoder_input_ids: Ids | None = None,
        *,
        prefix_mask: Ids | None = None,
        document_ids: Ids | None = None,
        decoder_document_ids: Ids | None = None,
    ) -> Tensor:
        """Mean cross-entropy of the labelled tokens, in nats: a float32 scalar in [0, inf).

        Arguments are those of `logits` and labels [B, T], -100 where a token does not count. `reading.logits.loss` says
        what is predicted from what, and names the errors.
        """
        inputs = Inputs(input_ids, attention_mask, decoder_input_ids, prefix_mask, document_ids, decoder_document_ids)
        with self._adapted():
            return logits.loss(self.reader, inputs, labels)

    # Folders

    def save(self, path: str | Path, precision: str | None = None, without_head: bool = False) -> Path:
        """Write a Hugging Face folder, which transformers and vLLM read, or a .gguf file, which llama.cpp reads.

        Returns the path; arguments and errors are those of `checkpoints.formats.write`.
        """
        path = Path(path)
        checkpoint = Checkpoint(
            config=self.config,
            family=self.family,
            state_dict=base_state_dict(self.network),
            tokenizer=self.tokenizer,
            card=self.card,
            generation_config=self.hf_generation_config,
            head_config=self.head_config,
        )
        formats.write(path, checkpoint, precision=precision, without_head=without_head)
        return path

    def add_adapter(self, folder: str | Path, name: str = "default") -> None:
        """Load a PEFT folder beside the weights. Calls go through the adapter once `lm.adapter` is its name.

        Raises:
            CheckpointError: the folder is not a LoRA adapter of this network.
        """
        peft_folder.load_adapter(self.network, Path(folder), name, family=self.family)
        self.writer.weights_changed()

    def _adapted(self, purpose: str | None = None) -> AbstractContextManager[None]:
        """Route all tokens through the adapter; one with virtual tokens is refused for a `purpose`."""
        if purpose is not None:
            refuse_virtual_tokens(self.network, self.adapter, purpose)
        return routed(self.network, self.adapter)


def _texts(texts: Text | Iterable[Text]) -> list[Text]:
    return [texts] if isinstance(texts, str | tuple) else list(texts)
