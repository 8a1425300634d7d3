"""Small charts for the report as inline SVG: bars of a histogram, and one bar cut into shares."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 200, 44, 36, 12
STAGE_COLOURS = ("#3f72af", "#b3122f", "#e08e2b", "#4c956c", "#7a5ba6")


def histogram(
    title: str, axis: str, counts: Sequence[int], names: Sequence[str], ticks: Sequence[tuple[float, str]]
) -> str:
    """A figure of bars with a caption, for sight and for screen readers.

    Args:
        title: Caption.
        axis: What lies along the axis, with its unit.
        counts: Height of each bar.
        names: What each bar stands for, e.g. ``10 to 20 m2``.
        ticks: Places along the axis (0..1) and their labels.
    """
    most = max([*counts, 1])
    wide, tall = _WIDTH - _LEFT, _HEIGHT - _BOTTOM - _TOP
    step = wide / max(len(counts), 1)
    base = _TOP + tall
    parts = []
    for i, (count, name) in enumerate(zip(counts, names, strict=True)):
        height = tall * count / most
        parts.append(
            f'<rect x="{_LEFT + i * step:.1f}" y="{base - height:.1f}" width="{max(step - 1.5, 1):.1f}" '
            f'height="{height:.1f}" fill="#b3122f"><title>{escape(name)}: {count:,}</title></rect>'
        )
    parts.append(f'<path d="M{_LEFT} {base}H{_WIDTH}" stroke="#5b6876"/>')
    text = 'font-size="12" fill="#5b6876"'
    parts.append(f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end" {text}>{most:,}</text>')
    parts.append(f'<text x="{_LEFT - 6}" y="{base}" text-anchor="end" {text}>0</text>')
    for place, name in ticks:
        anchor = "end" if place > 0.97 else "start" if place < 0.03 else "middle"
        x = _LEFT + place * wide
        parts.append(f'<text x="{x:.1f}" y="{base + 14}" text-anchor="{anchor}" {text}>{escape(name)}</text>')
    middle = _LEFT + wide / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 4}" text-anchor="middle" {text}>{escape(axis)}</text>')
    told = f"{title}: {sum(counts):,} polygons, at most {most:,} in a bar" if any(counts) else f"{title}: none"
    head = f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(told)}">'
    return f"<figure><figcaption>{escape(title)}</figcaption>{head}{''.join(parts)}</svg></figure>"


def shares(seconds: dict[str, float], wall_s: float) -> str:
    """One bar cut by the stages' seconds, with a legend of seconds and shares of the wall time."""
    total = sum(seconds.values()) or 1.0
    cuts, legend = [], []
    for colour, (name, taken) in zip(STAGE_COLOURS, seconds.items(), strict=False):
        cuts.append(f'<span style="width:{100 * taken / total:.2f}%;background:{colour}"></span>')
        share = f"{taken / wall_s:.0%}" if wall_s else "-"
        legend.append(f'<i style="background:{colour}"></i>{escape(name)} {taken:.1f} s ({share})')
    return f'<div class="bar" aria-hidden="true">{"".join(cuts)}</div><p class="legend">{"".join(legend)}</p>'
