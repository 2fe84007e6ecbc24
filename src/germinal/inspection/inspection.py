"""`inspect`: run one prompt through a model and collect the sections that show what happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from germinal import figures
from germinal.inspection.input_sections import WORDS, positions_section, tokens_section, words_section
from germinal.inspection.output_sections import (
    attention_section,
    layers_section,
    next_token_section,
    reading_section,
)
from germinal.inspection.page import render
from germinal.inspection.picture import Picture, Section
from germinal.inspection.subject import facts, look
from germinal.language_model import LanguageModel
from germinal.storage import write_text
from germinal.text.content import Content


@dataclass(frozen=True, slots=True)
class Inspection:
    """A look inside a model.

    Attributes:
        model: Name of the model.
        facts: Short descriptions of the model: family, architecture, sizes, precision.
        prompt: The text that it read, including special tokens.
        sections: The stages of the path through the model, in order.
    """

    model: str
    facts: tuple[str, ...]
    prompt: str
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> dict[str, Picture]:
        """All pictures by name; in a notebook, `inspect(lm, prompt).pictures["tokens"].chart` displays one."""
        return {picture.name: picture for section in self.sections for picture in section.pictures}

    def html(self) -> str:
        """The inspection as a self-contained HTML page."""
        return render(self.model, self.facts, self.prompt, self.sections)

    def save(self, path: Path) -> Path:
        """Write the page.

        Raises:
            StorageError: the file cannot be written; an existing file is left unchanged.
        """
        write_text(path, self.html())
        return path

    def save_pictures(self, folder: Path, palette: figures.Palette = figures.LIGHT) -> list[Path]:
        """Write each picture as a PNG file."""
        paths = [folder / f"{name}.png" for name in self.pictures]
        for path, picture in zip(paths, self.pictures.values(), strict=True):
            figures.save(picture.chart, path, title=picture.title, palette=palette)
        return paths


def inspect(
    lm: LanguageModel,
    prompt: Content,
    *,
    target: str | None = None,
    words: Sequence[str] = WORDS,
    settings: Mapping[str, Any] | None = None,
) -> Inspection:
    """Inspect a model's forward pass on one prompt.

    Args:
        lm: The model.
        prompt: Text, or the messages of a chat.
        target: For an encoder-decoder, the decoder's text so far; None generates it greedily.
        words: The words whose embeddings are compared.
        settings: Fields of `GenerationConfig` that override the model's defaults. If the result is greedy, the sampling
            steps are shown with example settings, and the page says so.

    Raises:
        SettingError: a setting is unknown, out of range or without effect, a target was given to a model that is not an
            encoder-decoder, or the words cannot be compared.
        ContextWindowError: the prompt does not fit the context window.
    """
    config = lm.writer.generation_config(settings or {})
    subject = look(lm, prompt, target)
    found = (
        tokens_section(subject),
        words_section(subject, words),
        positions_section(subject),
        attention_section(subject),
        layers_section(subject),
        next_token_section(subject, config),
        reading_section(subject),
    )
    return Inspection(
        model=lm.card.name,
        facts=facts(lm),
        prompt=lm.tokenizer.decode(subject.ids, skip_special_tokens=False),
        sections=tuple(section for section in found if section is not None),
    )
