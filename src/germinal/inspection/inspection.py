"""Looking at one prompt from all sides."""

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
        model: Whose.
        facts: What the model is, in a few words each.
        prompt: The text that it read, special tokens as they are written.
        sections: What there is to see, in the order in which it happens.
    """

    model: str
    facts: tuple[str, ...]
    prompt: str
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> dict[str, Picture]:
        """All pictures by name, for a notebook: `inspect(lm, prompt).pictures["attention"].chart`."""
        return {picture.name: picture for section in self.sections for picture in section.pictures}

    def html(self) -> str:
        """One page that stands alone."""
        return render(self.model, self.facts, self.prompt, self.sections)

    def save(self, path: Path) -> Path:
        """Write the page.

        Raises:
            StorageError: the file cannot be written; an older one stays as it was.
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
    """Look at one prompt on its way through a model.

    Args:
        lm: The model.
        prompt: Text, or the messages of a chat.
        target: What an encoder-decoder has written so far; None lets it answer first and looks at that.
        words: Whose embeddings are compared.
        settings: `GenerationConfig`'s, over the model's own. Where these and those are greedy, the steps of sampling
            are shown with settings of ours, and the page says so.

    Raises:
        SettingError: a setting is unknown, out of range or without effect, or the model has no use for a target.
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
