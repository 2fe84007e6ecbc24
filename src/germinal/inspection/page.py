"""The inspection as one self-contained HTML page, which includes the chart library once and loads nothing.

The charts are drawn in the reader's browser, because much of their content is in tooltips; they follow the reader's
light or dark theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from germinal import figures
from germinal.inspection.picture import Section
from germinal.version import __version__


def render(model: str, facts: Sequence[str], prompt: str, sections: Sequence[Section]) -> str:
    """Render the page as HTML."""
    environment = figures.page_templates(Path(__file__).parent)
    light, dark = figures.LIGHT.roles(), figures.DARK.roles()
    return environment.get_template("look.html.jinja").render(
        version=__version__,
        model=model,
        facts=facts,
        prompt=prompt,
        sections=sections,
        charts={picture.name: specification(picture.chart) for section in sections for picture in section.pictures},
        dark={light[role]: dark[role] for role in light},
        style=figures.page_css(),
        library=_library(),
    )


def specification(chart: Any) -> dict[str, Any]:
    """A chart's Vega-Lite specification without the URL of its schema, which the page does not need."""
    found: dict[str, Any] = chart.to_dict()
    found.pop("$schema", None)
    return found


@cache
def _library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script that can be inlined in a page."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("</script", "<\\/script")
