"""Bars with whiskers as SVG, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

from bench.measure import percentile

WIDTH, BAR, GAP, LEFT, RIGHT = 860, 22, 12, 330, 110


def bars(title: str, series: Mapping[str, Sequence[float]], highlight: str = "LaneSync") -> str:
    """One bar a series: its median, a whisker from the smallest to the 95th percentile. Seconds in."""
    rows = [(name, sorted(values)) for name, values in series.items() if values]
    longest = max((percentile(values, 95) for _, values in rows), default=0.0) or 1.0
    scale = (WIDTH - LEFT - RIGHT) / longest
    height = 44 + len(rows) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" fill="#1b1f24">{escape(title)}</text>',
    ]
    for index, (name, values) in enumerate(rows):
        ours = name.lower().startswith(highlight.lower())
        parts += _bar(40 + index * (BAR + GAP), name, values, scale, "#1f6feb" if ours else "#8c959f")
    return "\n".join([*parts, "</svg>", ""])


def _bar(top: float, name: str, values: Sequence[float], scale: float, colour: str) -> list[str]:
    middle, median = top + BAR / 2, percentile(values, 50)
    low, high = LEFT + values[0] * scale, LEFT + percentile(values, 95) * scale
    short = name if len(name) <= 44 else name[:43] + "…"
    return [
        f'<text x="{LEFT - 8}" y="{middle + 5:.0f}" text-anchor="end" fill="#1b1f24">{escape(short)}</text>',
        f'<rect x="{LEFT}" y="{top}" width="{max(1.0, median * scale):.1f}" height="{BAR}" fill="{colour}"/>',
        f'<path d="M{low:.1f} {middle}H{high:.1f}" stroke="#1b1f24" stroke-width="1.5"/>',
        f'<text x="{max(high, LEFT + median * scale) + 8:.0f}" y="{middle + 5:.0f}" fill="#1b1f24">'
        f"{duration(median)}</text>",
    ]


def duration(seconds: float) -> str:
    """`1.234 s` or `5.6 ms`."""
    return f"{seconds:.3f} s" if seconds >= 0.1 else f"{seconds * 1000:.1f} ms"
