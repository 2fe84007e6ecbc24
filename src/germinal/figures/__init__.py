"""Every chart of the project, defined once: the report, the studio and a notebook show the same picture.

Each module holds one chart: its data as a small dataclass, and a function that returns an Altair chart. `export` turns
charts into files that stand alone, `theme` holds colours and type. Nothing here knows of ledgers, trials or models.
"""

from germinal.figures.confusion import confusion
from germinal.figures.curves import LossPoint, loss_curve
from germinal.figures.export import save, to_png, to_svg
from germinal.figures.intervals import Estimate, intervals
from germinal.figures.reliability import Bin, bins, reliability
from germinal.figures.spread import Replicate, spread
from germinal.figures.theme import DARK, LIGHT, Kind, Palette, css
from germinal.figures.tradeoff import Outcome, frontier, tradeoff

__all__ = [
    "DARK",
    "LIGHT",
    "Bin",
    "Estimate",
    "Kind",
    "LossPoint",
    "Outcome",
    "Palette",
    "Replicate",
    "bins",
    "confusion",
    "css",
    "frontier",
    "intervals",
    "loss_curve",
    "reliability",
    "save",
    "spread",
    "to_png",
    "to_svg",
    "tradeoff",
]
