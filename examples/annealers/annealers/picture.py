"""A picture of a tour, as SVG."""

from __future__ import annotations

from html import escape

from annealers.board import Standing
from annealers.tsp import Instance

MARGIN = 60


def svg(instance: Instance, standing: Standing) -> str:
    """The cities and, once there is one, the best tour through them."""
    right = max(x for x, _ in instance.cities) + MARGIN
    top = max(y for _, y in instance.cities) + MARGIN
    # North is up on a map, and down in SVG.
    places = [(x + MARGIN, top - y) for x, y in instance.cities]
    if standing.length is None:
        caption = f"{instance.name}: no tour yet"
    else:
        above = standing.length / instance.optimum - 1
        caption = f"{instance.name}: {standing.length}, {above:.1%} above the optimum, by {standing.agent}"
    line = " ".join(f"{places[city][0]},{places[city][1]}" for city in standing.tour)
    dots = "".join(f'<circle cx="{x}" cy="{y}" r="9"/>' for x, y in places)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + MARGIN} {top + 2 * MARGIN}">'
        '<rect width="100%" height="100%" fill="#fffdf7"/>'
        f'<polygon points="{line}" fill="#dbe9f6" stroke="#1f5f99" stroke-width="6" stroke-linejoin="round"/>'
        f'<g fill="#c0392b">{dots}</g>'
        f'<text x="{MARGIN}" y="{top + 1.4 * MARGIN}" font-family="sans-serif" font-size="40">{escape(caption)}</text>'
        "</svg>\n"
    )
