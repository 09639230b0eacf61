"""Results as SVG, by hand: bars with whiskers and ratios, shares over time. Readable by day and by night."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

from bench.measure import SECONDS, Result, percentile

WIDTH, BAR, GAP, LEFT, RIGHT = 860, 20, 8, 320, 190
HEAD, FOOT = 40, 14
STYLE = """\
<style>
.paper{fill:#ffffff} .cut{stroke:#ffffff;stroke-width:3;fill:none}
text,.ink{fill:#1b1f24} .line{stroke:#1b1f24;fill:none} .faint{fill:#57606a}
.ours{fill:#1a7f8c} .other{fill:#b6bec7}
.c0{fill:#1a7f8c} .c1{fill:#d98c21} .c2{fill:#7c6cc4} .c3{fill:#9aa4ae} .c4{fill:#b5495b} .c5{fill:#5a9e4b}
@media (prefers-color-scheme:dark){
.paper{fill:#161b22} .cut{stroke:#161b22} text,.ink{fill:#e6edf3} .line{stroke:#e6edf3} .faint{fill:#9da7b1}
.ours{fill:#2fb3c2} .other{fill:#57606a}
.c0{fill:#2fb3c2} .c1{fill:#e3a34a} .c2{fill:#9a8be0} .c3{fill:#6e7781} .c4{fill:#d9687c} .c5{fill:#77bd68}}
</style>"""


@dataclass(frozen=True)
class Panel:
    """Some height of drawing, its top at 0."""

    height: float
    parts: list[str]


def draw(results: Sequence[Result]) -> str:
    """One picture for all tables of a workload, one below the other."""
    panels = [shares(result) if result.timeline else bars(result) for result in results if result.series]
    height = sum(panel.height for panel in panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
        f'viewBox="0 0 {WIDTH} {height:.0f}" font-family="sans-serif" font-size="13">',
        STYLE,
        f'<path class="paper" d="M0 0H{WIDTH}V{height:.0f}H0Z"/>',
    ]
    top = 0.0
    for panel in panels:
        parts += [f'<g transform="translate(0 {top:.0f})">', *panel.parts, "</g>"]
        top += panel.height
    return "\n".join([*parts, "</svg>", ""])


def _title(text: str, more: str = "") -> str:
    return (
        f'<text x="12" y="24" font-size="15">{escape(text)}'
        f'<tspan class="faint" font-size="12">{escape(more)}</tspan></text>'
    )


# -- bars


def bars(result: Result) -> Panel:
    """One bar a series: its median, a whisker from the smallest to the 95th percentile, the ratio behind. Who
    is far behind all others gets a bar that is cut, so that the others can be told apart."""
    rows = [(name, sorted(values)) for name, values in result.series.items() if values]
    scale = (WIDTH - LEFT - RIGHT) / _longest(result)
    better = "less is better" if result.unit == SECONDS else "more is better"
    parts = [_title(result.title, f" · {better}")]
    for index, (name, values) in enumerate(rows):
        parts += _bar(HEAD + index * (BAR + GAP), name, values, scale, result)
    return Panel(HEAD + len(rows) * (BAR + GAP) + FOOT, parts)


def _longest(result: Result) -> float:
    """What is as long as there is room. A rate is never cut: it is the better for being long."""
    medians = sorted(result.median(name) for name, values in result.series.items() if values)
    most = max((percentile(values, 95) for values in result.series.values() if values), default=0.0)
    if result.unit != SECONDS:
        return most or 1.0
    base = result.median(result.baseline) if result.series.get(result.baseline) else most
    usual = medians[len(medians) // 2] if medians else 0.0
    return min(most, max(6 * base, 3 * usual)) or 1.0


def _bar(top: float, name: str, values: Sequence[float], scale: float, result: Result) -> list[str]:
    middle, median, edge = top + BAR / 2, result.median(name), WIDTH - RIGHT
    low, high = (min(edge, LEFT + value * scale) for value in (values[0], percentile(values, 95)))
    end = min(edge, LEFT + max(1.0, median * scale))
    kind = "ours" if name.lower().startswith("lanesync") else "other"
    short = name if len(name) <= 46 else name[:45] + "…"
    ratio = result.ratio(name)
    said = "" if ratio is None or name == result.baseline else f" · {ratio:.2f} ×"
    cut = f'<path class="cut" d="M{edge - 18} {top + BAR + 3}l10 {-BAR - 6}m6 0l-10 {BAR + 6}"/>'
    return [
        f'<text x="{LEFT - 8}" y="{middle + 5:.0f}" text-anchor="end">{escape(short)}</text>',
        f'<rect class="{kind}" x="{LEFT}" y="{top}" width="{end - LEFT:.1f}" height="{BAR}"/>',
        cut
        if LEFT + median * scale > edge + 1
        else f'<path class="line" d="M{low:.1f} {middle}H{high:.1f}" stroke-width="1.5"/>',
        f'<text x="{max(high, end) + 8:.0f}" y="{middle + 5:.0f}">'
        f'{told(median, result.unit)}<tspan class="faint">{said}</tspan></text>',
    ]


def told(value: float, unit: str = SECONDS) -> str:
    """`1.234 s`, `5.6 ms`, `823 Mbit/s`."""
    if unit != SECONDS:
        return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{value:.3f} s" if value >= 0.1 else f"{value * 1000:.1f} ms"


# -- shares over time

PLOT_LEFT, PLOT_RIGHT, PLOT_TOP, PLOT_BOTTOM, HEIGHT = 60, 150, 44, 40, 300
STEP_SECONDS = 1.0


def shares(result: Result) -> Panel:
    """Each lane's share of what was sent in each second, stacked; lines where they were asked to end."""
    points = [result.timeline[0]]
    for count in result.timeline[1:]:
        if count[0] - points[-1][0] >= STEP_SECONDS:
            points.append(count)
    longest = (points[-1][0] - points[0][0]) or 1.0
    width, height = WIDTH - PLOT_LEFT - PLOT_RIGHT, HEIGHT - PLOT_TOP - PLOT_BOTTOM
    xs = [PLOT_LEFT + width * (at - points[0][0]) / longest for at, _ in points]
    below = [0.0] * len(xs)
    parts, expected = [_title(result.title)], 0.0
    for number, (lane, share) in enumerate(result.shares.items()):
        tops = [low + part for low, part in zip(below, _parts(points, lane, result.shares), strict=True)]
        edge = [f"{x:.1f},{_y(top, height)}" for x, top in zip(xs, tops, strict=True)]
        back = [f"{x:.1f},{_y(low, height)}" for x, low in zip(xs, below, strict=True)]
        parts.append(f'<polygon class="c{number % 6}" points="{" ".join([*edge, *reversed(back)])}"/>')
        expected += share
        parts += _key(number, lane, share, PLOT_LEFT + width, _y(expected, height))
        below = tops
    return Panel(HEIGHT, [*parts, *_axes(height, width, longest)])


def _y(share: float, height: float) -> str:
    return f"{PLOT_TOP + height * (1 - share):.1f}"


def _parts(
    points: Sequence[tuple[float, Mapping[str, int]]], lane: str, lanes: Mapping[str, float]
) -> list[float]:
    """The lane's part of what moved between each two points."""
    found = []
    for (_, before), (_, after) in pairwise(points):
        moved = {name: after.get(name, 0) - before.get(name, 0) for name in lanes}
        found.append(moved[lane] / (sum(moved.values()) or 1))
    return found[:1] + found  # the first one from the very beginning


def _key(number: int, lane: str, share: float, right: float, y: str) -> list[str]:
    top = PLOT_TOP + 24 * number
    return [
        f'<path class="line" d="M{PLOT_LEFT} {y}H{right:.0f}" stroke-dasharray="4 4"/>',
        f'<rect class="c{number % 6}" x="{WIDTH - PLOT_RIGHT + 16}" y="{top}" width="14" height="14"/>',
        f'<text x="{WIDTH - PLOT_RIGHT + 38}" y="{top + 12}">{escape(lane)} {share:.0%}</text>',
    ]


def _axes(height: float, width: float, longest: float) -> list[str]:
    marks = [
        f'<text x="{PLOT_LEFT - 8}" y="{float(_y(percent / 100, height)) + 5:.0f}" text-anchor="end">'
        f"{percent} %</text>"
        for percent in (0, 50, 100)
    ]
    below = f"0 to {longest:.0f} seconds; dashed: as asked"
    return [
        *marks,
        f'<text class="faint" x="{PLOT_LEFT + width / 2:.0f}" y="{HEIGHT - 12}" text-anchor="middle">'
        f"{below}</text>",
    ]
