"""Plots as inline SVG: no library, no external resource, readable in light and dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

WIDTH = 960
COLOURS = {"float32": "#7f8c8d", "float16": "#8e6bbf", "int16": "#2f7fd1", "int8": "#e08a1e", "uint8": "#e08a1e"}
TOP_DB = 100.0  # bars end here: more is as good as exact


class Bar(NamedTuple):
    """One bar: a label, its height in dB (None: unknown), its colour's precision."""

    label: str
    db: float | None
    precision: str


class ParetoPoint(NamedTuple):
    """One trial of a search: share of multiply-accumulates above 8 bits (0..1), damage in dB, whether it was chosen."""

    fraction: float
    damage_db: float
    chosen: bool = False


def bars(found: Sequence[Bar], *, height: int = 220, unit: str = "dB") -> str:
    """Vertical bars in the order given, low ones are damage; the label and the value show on hover."""
    top = max([10.0, *(min(b.db, TOP_DB) for b in found if b.db is not None)])
    scale = Scale(0.0, 10.0 * math.ceil(top / 10.0), height - 18.0, 8.0)
    step = (WIDTH - 50) / max(1, len(found))
    parts = [_grid(scale, unit)]
    for i, bar in enumerate(found):
        value = scale.high if bar.db is None else min(max(bar.db, 0.0), scale.high)
        y = scale(value) if value > 0 else scale(0) - 2
        left, wide = 48 + i * step, max(0.8, 0.8 * step)
        colour = COLOURS.get(bar.precision, "#7f8c8d")
        faint = ' fill-opacity="0.15"' if bar.db is None else ""
        text = "not measured" if bar.db is None else _db(bar.db)
        parts.append(
            f'<rect x="{left:.1f}" y="{y:.1f}" width="{wide:.1f}" height="{scale(0) - y:.1f}" fill="{colour}"{faint}>'
            f"<title>{escape(bar.label)} ({escape(bar.precision)}): {text}</title></rect>"
        )
    return _svg(parts, height)


def pareto(points: Sequence[ParetoPoint], *, height: int = 280) -> str:
    """Damage over the share of work above 8 bits; the chosen trial is filled."""
    values = [p.damage_db for p in points if math.isfinite(p.damage_db)]
    if not values:
        return ""
    low, high = min(values), max(values)
    margin = max(1.0, 0.08 * (high - low))
    y = Scale(low - margin, high + margin, height - 34.0, 8.0)
    x = Scale(0.0, max(1e-3, *(p.fraction for p in points)) * 1.05, 48.0, WIDTH - 10.0)
    parts = [_grid(y, "dB")]
    for tick in _ticks(x):
        label = f"{tick:.0%}" if x.high > 0.05 else f"{tick:.1%}"
        parts.append(f'<text x="{x(tick):.1f}" y="{height - 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<text x="{WIDTH / 2}" y="{height - 3}" text-anchor="middle">work above 8 bits</text>')
    for p in sorted(points, key=lambda p: p.chosen):
        if math.isfinite(p.damage_db):
            style = 'r="6" class="chosen"' if p.chosen else 'r="3.5" class="trial"'
            title = f"{p.fraction:.2%} above 8 bits: {_db(p.damage_db)}{' (chosen)' if p.chosen else ''}"
            at = f'cx="{x(p.fraction):.1f}" cy="{y(p.damage_db):.1f}"'
            parts.append(f"<circle {at} {style}><title>{title}</title></circle>")
    return _svg(parts, height)


class Scale(NamedTuple):
    """A straight line from values ``low..high`` to pixels ``start..end``."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _ticks(scale: Scale) -> list[float]:
    """Some four to ten round values inside the scale."""
    span = scale.high - scale.low
    step = 10.0 ** math.floor(math.log10(span))
    step *= 1.0 if span / step >= 4 else 0.5 if span / step >= 2 else 0.2
    first, last = math.ceil(scale.low / step), math.floor(scale.high / step)
    return [k * step for k in range(first, last + 1)]


def _grid(scale: Scale, unit: str) -> str:
    parts = []
    for tick in _ticks(scale):
        y = scale(tick)
        parts.append(f'<line x1="46" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="42" y="{y + 4:.1f}" text-anchor="end">{tick:g} {unit}</text>')
    return "".join(parts)


def _svg(parts: Sequence[str], height: int) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img">{"".join(parts)}</svg>'


def _db(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else ("exact" if value > 0 else "lost")
