"""Charts as the shapes of an inline SVG: positions are computed here, templates/charts.html writes them.

Colours, fonts and dark mode are classes of the style sheet. A shape may have a tip, which is shown while the pointer is
over it, with and without JavaScript.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WIDTH, HEIGHT = 360.0, 240.0
"""The size of a chart in its own units. A phone shows them about one to one, so that text stays readable."""
LEFT, RIGHT, TOP, BOTTOM = 44.0, 12.0, 10.0, 38.0
ROW = 24.0
"""The height of a row in a chart of rows."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values from ``low`` to ``high`` linearly to positions from ``start`` to ``end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return round(self.start + share * (self.end - self.start), 2)


@dataclass(frozen=True, slots=True)
class Shape:
    """One SVG element with its attributes, a text (for ``text``), and the tip."""

    tag: str
    attributes: dict[str, str | float]
    text: str = ""
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A line of a legend: a class of the style sheet, and what it stands for."""

    style: str
    name: str


@dataclass(slots=True)
class Chart:
    """A chart: what it shows (``title``, and ``description`` for those who cannot see it), and its shapes."""

    title: str
    description: str
    width: float = WIDTH
    height: float = HEIGHT
    shapes: list[Shape] = field(default_factory=list)
    legend: list[Entry] = field(default_factory=list)

    def line(self, points: Sequence[Point], style: str, tip: str = "") -> None:
        """A line through ``points``."""
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(Shape("polyline", {"points": path, "class": f"line {style}"}, tip=tip))

    def dot(self, x: float, y: float, style: str, tip: str = "", radius: float = 3.5) -> None:
        """A round dot."""
        self.shapes.append(Shape("circle", {"cx": x, "cy": y, "r": radius, "class": f"dot {style}"}, tip=tip))

    def diamond(self, x: float, y: float, style: str, tip: str = "", radius: float = 4.5) -> None:
        """A diamond, which is told from a dot without colour."""
        path = f"M{x:g} {y - radius:g}l{radius:g} {radius:g}l{-radius:g} {radius:g}l{-radius:g} {-radius:g}z"
        self.shapes.append(Shape("path", {"d": path, "class": f"dot {style}"}, tip=tip))

    def bar(self, x: float, y: float, width: float, height: float, style: str, tip: str = "") -> None:
        """A filled rectangle."""
        size = {"x": x, "y": y, "width": max(0.0, round(width, 2)), "height": max(0.0, round(height, 2))}
        self.shapes.append(Shape("rect", {**size, "class": f"bar {style}"}, tip=tip))

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """A line of text; ``anchor`` is start, middle or end."""
        self.shapes.append(
            Shape("text", {"x": x, "y": y, "text-anchor": anchor, "class": f"label {style}".strip()}, text)
        )

    def rule(self, start: Point, end: Point, style: str = "grid") -> None:
        """A straight line of the frame."""
        (x1, y1), (x2, y2) = start, end
        self.shapes.append(Shape("line", {"x1": x1, "y1": y1, "x2": x2, "y2": y2, "class": style}))


@dataclass(slots=True)
class Plot:
    """A chart with two axes."""

    chart: Chart
    x: Scale
    y: Scale

    def at(self, x: float, y: float) -> Point:
        """The position of two values."""
        return self.x(x), self.y(y)

    def line(self, points: Iterable[Point], style: str, tip: str = "") -> None:
        """A line through values."""
        self.chart.line([self.at(*point) for point in points], style, tip)

    def interval(self, x: float, low: float, high: float, style: str) -> None:
        """A vertical line from ``low`` to ``high``."""
        self.chart.line([self.at(x, low), self.at(x, high)], f"interval {style}")


def plot(
    title: str,
    description: str,
    *,
    x: tuple[float, float],
    y: tuple[float, float],
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
) -> Plot:
    """A chart with axes for values of ``x`` and ``y``, each from a low to a high one; ticks are values with names."""
    chart = Chart(title, description)
    left, right, top, bottom = LEFT, WIDTH - RIGHT, TOP + 14, HEIGHT - BOTTOM
    across, up = Scale(*x, left + 6, right - 6), Scale(*y, bottom - 4, top + 4)
    for value, name in y_ticks:
        chart.rule((left, up(value)), (right, up(value)))
        chart.text(left - 5, round(up(value) + 4, 2), name, anchor="end")
    for value, name in x_ticks:
        chart.rule((across(value), bottom), (across(value), bottom + 4), "axis")
        chart.text(across(value), bottom + 16, name, anchor="middle")
    chart.rule((left, bottom), (right, bottom), "axis")
    chart.text(round((left + right) / 2, 2), HEIGHT - 5, x_label, "name", "middle")
    chart.text(0, 12, y_label, "name")
    return Plot(chart, across, up)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A row of a chart of estimates: its name, a value with its interval (None for a value without one), and a text."""

    name: str
    value: float
    low: float | None
    high: float | None
    text: str
    style: str = ""


def estimates(
    title: str,
    description: str,
    rows: Sequence[Estimate],
    *,
    limits: tuple[float, float],
    ticks: Sequence[tuple[float, str]],
    mark: float | None = None,
    names: float = 104.0,
    texts: float = 50.0,
) -> Chart:
    """A row for each estimate: its name (``names`` units wide), value and interval as a dot on a line, and its text.

    ``mark`` is a value with a line of its own, such as 0 in a forest plot.
    """
    height = TOP + ROW * len(rows) + 24
    chart = Chart(title, description, height=height)
    across = Scale(*limits, names + 8, WIDTH - texts - 8)
    bottom = TOP + ROW * len(rows)
    for value, name in ticks:
        chart.rule((across(value), TOP), (across(value), bottom))
        chart.text(across(value), bottom + 15, name, anchor="middle")
    if mark is not None:
        chart.rule((across(mark), TOP), (across(mark), bottom), "axis")
    for number, row in enumerate(rows):
        y = round(TOP + ROW * (number + 0.5), 2)
        chart.text(names, round(y + 4, 2), row.name, row.style, "end")
        if row.low is not None and row.high is not None:
            chart.line([(across(row.low), y), (across(row.high), y)], f"interval {row.style}")
        chart.dot(across(row.value), y, row.style, f"{row.name}: {row.text}", 4.5)
        chart.text(WIDTH - texts + 2, round(y + 4, 2), row.text, row.style)
    return chart


def histogram(
    title: str,
    description: str,
    counts: Sequence[Sequence[int]],
    *,
    limits: tuple[float, float],
    styles: Sequence[str],
    tips: Sequence[str],
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
) -> Chart:
    """Stacked bars of equal width between ``limits``: ``counts`` (n_parts, n_bins), with a style for each part and a
    tip for each bin."""
    totals = [sum(column) for column in zip(*counts, strict=True)]
    ticks = [(value, f"{value:,.0f}") for value in nice_ticks(0, max([*totals, 1])) if value == int(value)]
    found = plot(
        title,
        description,
        x=limits,
        y=(0, max([*totals, 1, *(value for value, _ in ticks)])),
        x_ticks=x_ticks,
        y_ticks=ticks,
        x_label=x_label,
        y_label="rows",
    )
    step = (limits[1] - limits[0]) / len(totals)
    below = [0] * len(totals)
    for part, style in zip(counts, styles, strict=True):
        for place, count in enumerate(part):
            if count:
                x = found.x(limits[0] + place * step)
                width = found.x(limits[0] + (place + 1) * step) - x - 1
                top = found.y(below[place] + count)
                found.chart.bar(x, top, width, found.y(below[place]) - top, style, tips[place])
            below[place] += count
    return found.chart


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """At most ``most`` + 1 round values that reach from below ``low`` to above ``high``."""
    if high <= low:
        return [low]
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def percent_axis(values: Iterable[float]) -> tuple[tuple[float, float], list[tuple[float, str]]]:
    """Limits within 0 to 1 that hold all ``values``, and their ticks in percent."""
    known = list(values)
    low, high = max(0.0, min(known, default=0.0)), min(1.0, max(known, default=1.0))
    if high - low < 0.1:
        low, high = max(0.0, low - 0.05), min(1.0, high + 0.05)
    ticks = [value for value in nice_ticks(low, high, 4) if -1e-9 <= value <= 1 + 1e-9]
    limits = min(low, ticks[0]), max(high, ticks[-1])
    return limits, [(value, f"{100 * value:.0f} %") for value in ticks]
