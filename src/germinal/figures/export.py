"""Charts as self-contained files: SVG that follows the reader's theme, PNG in one theme. They load nothing else.

Vega's accessible labels become `<title>` elements, which screen readers read and browsers show as tooltips.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from germinal.errors import UnsupportedError
from germinal.figures.theme import LIGHT, Palette, css, recoloured
from germinal.storage import atomic_path

_PAINT = re.compile(r'\b(fill|stroke)="(#[0-9a-f]{6})"')
_LABELLED = re.compile(r'<(path|text|line)\b([^>]*?)\baria-label="([^"]*)"([^>]*?)/>')
_WIDE = 400.0  # pixels; on a phone, wider charts scroll instead of shrinking until they are unreadable
_ROLES = {colour: role for role, colour in LIGHT.roles().items()}


def to_svg(chart: Any, *, title: str, description: str = "", inline: bool = False) -> str:
    """The chart as SVG whose colours are CSS variables.

    Args:
        chart: One of this package's charts.
        title: Its accessible name.
        description: What it shows, for screen readers.
        inline: For use inside an HTML page that includes `theme.css()`: no XML namespace and no fixed width.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg(chart.to_dict())
    svg = _LABELLED.sub(_with_title, svg)
    head, body = re.match(r"(<svg\b[^>]*>)(.*)", svg, re.DOTALL).groups()  # type: ignore[union-attr]
    body = _themed(body)
    width, height = re.search(r'width="([\d.]+)" height="([\d.]+)"', head).groups()  # type: ignore[union-attr]
    caption = f"<title>{escape(title)}</title>" + (f"<desc>{escape(description)}</desc>" if description else "")
    if inline:
        kind = "chart wide" if float(width) > _WIDE else "chart"
        opening = f'<svg class="{kind}" role="img" viewBox="0 0 {width} {height}" style="max-width:{width}px">'
        return f"{opening}{caption}{body}"
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
    )
    return f"{opening}{caption}<style>{css()}</style>{body}"


def to_png(chart: Any, *, palette: Palette = LIGHT, scale: float = 2.0) -> bytes:
    """The chart as PNG in one theme."""
    import vl_convert

    return bytes(vl_convert.vegalite_to_png(recoloured(chart.to_dict(), palette), scale=scale))


def save(chart: Any, path: Path, *, title: str, palette: Palette = LIGHT) -> None:
    """Write the chart to an `.svg` or `.png` file.

    Raises:
        UnsupportedError: the suffix is another one.
    """
    match path.suffix:
        case ".svg":
            content = to_svg(chart, title=title).encode()
        case ".png":
            content = to_png(chart, palette=palette)
        case _:
            raise UnsupportedError(
                f"'{path.suffix}' is not a supported picture format.", where=str(path), hint="Use .svg or .png."
            )
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _with_title(match: re.Match[str]) -> str:
    tag, before, label, after = match.groups()
    return f"<{tag}{before}{after}><title>{label}</title></{tag}>"


def _themed(body: str) -> str:
    """Replace the colours of roles by CSS variables, in one style attribute per element."""
    return re.sub(r"<[a-z]+\b[^>]*>", lambda tag: _themed_tag(tag.group()), body)


def _themed_tag(tag: str) -> str:
    styles: list[str] = []

    def moved(paint: re.Match[str]) -> str:
        name, colour = paint.groups()
        if colour not in _ROLES:
            return paint.group()
        styles.append(f"{name}:var(--g-{_ROLES[colour]},{colour})")
        return ""

    tag = _PAINT.sub(moved, tag)
    if not styles:
        return tag
    style = ";".join(styles)
    if ' style="' in tag:
        return tag.replace(' style="', f' style="{style};', 1)
    end = "/>" if tag.endswith("/>") else ">"
    return f'{tag.removesuffix(end).rstrip()} style="{style}"{end}'
