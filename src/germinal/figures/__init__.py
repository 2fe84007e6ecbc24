"""Every chart of the project, defined once: the report, the studio and a notebook show the same picture.

Each module defines one chart: its data as a small dataclass, and a function that returns an Altair chart. `export`
turns charts into self-contained files; `theme` holds colours and fonts. Nothing here depends on ledgers, trials or
models.
"""

from germinal.figures.attention import attention
from germinal.figures.confusion import confusion
from germinal.figures.curves import LossPoint, loss_curve
from germinal.figures.export import save, to_png, to_svg
from germinal.figures.intervals import Estimate, intervals
from germinal.figures.layers import Growth, Guess, growth, guesses
from germinal.figures.lengths import lengths
from germinal.figures.next_token import Candidate, RankCurve, next_token, vocabulary_curve
from germinal.figures.reliability import Bin, bins, reliability
from germinal.figures.rows import RowValues, row_values
from germinal.figures.signed_map import signed_map
from germinal.figures.spread import Replicate, spread
from germinal.figures.theme import DARK, LIGHT, Kind, Palette, css, page_css, page_templates
from germinal.figures.tokens import Token, tokens
from germinal.figures.tradeoff import Outcome, frontier, tradeoff
from germinal.figures.words import Word, word_angles, word_plane

__all__ = [
    "DARK",
    "LIGHT",
    "Bin",
    "Candidate",
    "Estimate",
    "Growth",
    "Guess",
    "Kind",
    "LossPoint",
    "Outcome",
    "Palette",
    "RankCurve",
    "Replicate",
    "RowValues",
    "Token",
    "Word",
    "attention",
    "bins",
    "confusion",
    "css",
    "frontier",
    "growth",
    "guesses",
    "intervals",
    "lengths",
    "loss_curve",
    "next_token",
    "page_css",
    "page_templates",
    "reliability",
    "row_values",
    "save",
    "signed_map",
    "spread",
    "to_png",
    "to_svg",
    "tokens",
    "tradeoff",
    "vocabulary_curve",
    "word_angles",
    "word_plane",
]
