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


COLOURS = ("#1f6feb", "#2da44e", "#bf8700", "#8c959f", "#a475f9", "#cf222e")
PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM, HEIGHT = 60, 150, 44, 40, 340


def shares(
    title: str,
    counts: Sequence[tuple[float, Mapping[str, int]]],
    asked: Mapping[str, float],
    step: float = 1.0,
) -> str:
    """Each lane's share of what was sent in each second, stacked; lines where the specs say they should end.
    `counts` are (seconds, bytes so far by lane)."""
    points = [counts[0]]
    for count in counts[1:]:
        if count[0] - points[-1][0] >= step:
            points.append(count)
    width, height = WIDTH - PLOT_LEFT - PLOT_RIGHT, HEIGHT - PLOT_TOP - PLOT_BOTTOM
    longest = points[-1][0] or 1.0
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'<text x="12" y="24" font-size="15" fill="#1b1f24">{escape(title)}</text>',
    ]
    below = [0.0] * (len(points) - 1)
    expected = 0.0
    for number, (lane, share) in enumerate(asked.items()):
        tops = []
        for at in range(1, len(points)):
            moved = {name: points[at][1].get(name, 0) - points[at - 1][1].get(name, 0) for name in asked}
            tops.append(below[at - 1] + moved[lane] / (sum(moved.values()) or 1))
        xs = [PLOT_LEFT + width * (points[at][0] / longest) for at in range(1, len(points))]
        upper = [f"{x:.1f},{PLOT_TOP + height * (1 - top):.1f}" for x, top in zip(xs, tops, strict=True)]
        lower = [f"{x:.1f},{PLOT_TOP + height * (1 - low):.1f}" for x, low in zip(xs, below, strict=True)]
        colour = COLOURS[number % len(COLOURS)]
        parts.append(f'<polygon points="{" ".join([*upper, *reversed(lower)])}" fill="{colour}"/>')
        expected += share
        y = PLOT_TOP + height * (1 - expected)
        key = PLOT_TOP + 24 * number
        parts += [
            f'<path d="M{PLOT_LEFT} {y:.1f}H{PLOT_LEFT + width}" stroke="#1b1f24" stroke-dasharray="4 4"/>',
            f'<rect x="{WIDTH - PLOT_RIGHT + 16}" y="{key}" width="14" height="14" fill="{colour}"/>',
            f'<text x="{WIDTH - PLOT_RIGHT + 38}" y="{key + 12}" fill="#1b1f24">'
            f"{escape(lane)} {share:.0%}</text>",
        ]
        below = tops
    for percent in (0, 50, 100):
        y = PLOT_TOP + height * (1 - percent / 100)
        parts.append(
            f'<text x="{PLOT_LEFT - 8}" y="{y + 5:.0f}" text-anchor="end" fill="#1b1f24">{percent} %</text>'
        )
    parts.append(
        f'<text x="{PLOT_LEFT + width / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle" fill="#1b1f24">'
        f"0 to {longest:.0f} seconds; dashed: as asked</text>"
    )
    return "\n".join([*parts, "</svg>", ""])
