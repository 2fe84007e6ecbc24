"""Colours and fonts of every chart, in a light and a dark palette with the same roles.

A chart is built once, with the light colours. `export.to_svg` turns each of them into a CSS variable, so that the file
follows the reader's theme; `recoloured` replaces them in a specification for formats that cannot follow it (PNG).

The hues are Okabe and Ito's (https://jfly.uni-koeln.de/color/), darkened or lightened to a contrast of at least 3:1
with the background (WCAG 2.1, 1.4.11). Every kind also has its own shape, so that colour is never the only sign.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from jinja2 import Environment

Kind = Literal["prompted", "tuned", "baseline"]
"""Kind of a candidate: a language model that is only prompted, one with tuned weights, or a baseline."""

MONOSPACE = "ui-monospace, 'SFMono-Regular', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
FONT = "Inter, 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif"


@dataclass(frozen=True, slots=True)
class Palette:
    """One colour for each role. The colours must differ, because the role is recovered from the colour in a drawing."""

    background: str
    ink: str
    muted: str
    grid: str
    prompted: str
    tuned: str
    baseline: str
    good: str
    bad: str
    on_fill: str

    def roles(self) -> dict[str, str]:
        """Role name -> colour."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


LIGHT = Palette(
    background="#fffffe",
    ink="#1c2128",
    muted="#5b6470",
    grid="#dfe3e8",
    prompted="#0068a8",
    tuned="#a8417f",
    baseline="#a85a00",
    good="#00795a",
    bad="#b8400e",
    on_fill="#ffffff",
)
DARK = Palette(
    background="#12161c",
    ink="#e8ebef",
    muted="#a0a9b5",
    grid="#303742",
    prompted="#5cb3ee",
    tuned="#e493c3",
    baseline="#f0aa4a",
    good="#3dc79c",
    bad="#f2865a",
    on_fill="#0b0e12",
)

KIND_COLOURS: dict[str, str] = {"prompted": LIGHT.prompted, "tuned": LIGHT.tuned, "baseline": LIGHT.baseline}
KIND_SHAPES: dict[str, str] = {"prompted": "circle", "tuned": "square", "baseline": "diamond"}

CONFIG: dict[str, Any] = {
    "background": LIGHT.background,
    "font": FONT,
    "padding": {"left": 4, "right": 16, "top": 6, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": LIGHT.ink,
        "titleColor": LIGHT.muted,
        "domainColor": LIGHT.grid,
        "tickColor": LIGHT.grid,
        "gridColor": LIGHT.grid,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 10,
        "labelPadding": 6,
        "labelLimit": 320,
        "labelFlush": False,
        "tickCount": 6,
    },
    "axisX": {"domain": False, "ticks": False},
    "axisY": {"domain": False, "ticks": False},
    "legend": {
        "labelColor": LIGHT.ink,
        "titleColor": LIGHT.muted,
        "labelFontSize": 12,
        "orient": "top",
        "title": None,
        "symbolSize": 70,
        "symbolOpacity": 1,
        "offset": 8,
        "columnPadding": 18,
    },
    "text": {"color": LIGHT.ink, "fontSize": 12},
    "title": {"color": LIGHT.ink, "fontSize": 14, "anchor": "start", "fontWeight": 600},
}


def styled(chart: Any) -> Any:
    """The chart with this module's configuration embedded, so that it looks the same wherever it is shown."""
    return chart.configure(**CONFIG)


def recoloured(specification: Any, palette: Palette) -> Any:
    """A Vega-Lite specification with every light colour replaced by the colour of the same role in `palette`."""
    swaps = {colour: palette.roles()[role] for role, colour in LIGHT.roles().items()}
    return _swapped(specification, swaps)


def _swapped(value: Any, swaps: dict[str, str]) -> Any:
    match value:
        case str():
            return swaps.get(value, value)
        case dict():
            return {key: _swapped(item, swaps) for key, item in value.items()}
        case list():
            return [_swapped(item, swaps) for item in value]
    return value


def css(prefix: str = "g") -> str:
    """Both palettes as CSS variables: light by default and in print, dark if the reader prefers it."""
    light = "".join(f"--{prefix}-{role}:{colour};" for role, colour in LIGHT.roles().items())
    dark = "".join(f"--{prefix}-{role}:{colour};" for role, colour in DARK.roles().items())
    return f":root{{{light}}}@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def page_templates(folder: Path) -> Environment:
    """A jinja environment for the templates of a folder, with autoescape; an undefined variable is an error."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def page_css() -> str:
    """The style sheet of a page with charts, including both palettes: text, tables, navigation, figures."""
    return f"{css()}\n{Path(__file__).with_name('page.css').read_text(encoding='utf-8')}"
