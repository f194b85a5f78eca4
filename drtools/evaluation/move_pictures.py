"""Plots of a query's move among documents, projected and by t-SNE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools.evaluation.pictures import BLACK, GREEN, GREY, ORANGE, SKY, legend_below, picture

if TYPE_CHECKING:
    from drtools.evaluation.query_move import Plane, Projection

LOOKS: dict[str, dict[str, Any]] = {
    "top before alone": {"color": ORANGE, "marker": "o", "s": 22, "alpha": 0.8, "linewidths": 0},
    "top before and after": {"color": GREY, "marker": "o", "s": 22, "alpha": 0.9, "linewidths": 0},
    "top after alone": {"color": SKY, "marker": "o", "s": 22, "alpha": 0.9, "linewidths": 0},
    "relevant": {"color": GREEN, "marker": "*", "s": 190, "edgecolors": "white", "linewidths": 0.8, "zorder": 4},
}
ALONG = "along the query's move: a document further right gains more score"
ACROSS = "across it: where the documents differ most"


def draw_move(
    path: Path,
    plane: Plane | Projection,
    groups: dict[str, list[int]],
    title: str,
    below: str,
    axes: tuple[str, str] = ("", ""),
) -> None:
    """Plot the query's move among documents; `groups` are rows of the plane's documents by name, positives last.

    Without names, the `axes` have no meaning and get no numbers.
    """
    with picture(path, 6.6, title, below) as (figure, (panel,)):
        for name, look in LOOKS.items():
            rows = groups[name]
            if rows:
                panel.scatter(
                    plane.documents[rows, 0], plane.documents[rows, 1], **look, label=f"{name} ({len(rows):,})"
                )
        before, after = plane.queries
        panel.annotate(
            "",
            after,
            before,
            arrowprops={
                "arrowstyle": "-|>",
                "color": BLACK,
                "linewidth": 1.6,
                "shrinkA": 6,
                "shrinkB": 6,
                "mutation_scale": 16,
            },
            zorder=5,
        )
        panel.scatter(
            before[0],
            before[1],
            s=95,
            facecolors="white",
            edgecolors=BLACK,
            linewidths=1.8,
            zorder=6,
            label="query before",
        )
        panel.scatter(after[0], after[1], s=95, color=BLACK, zorder=6, label="query after")
        panel.set_aspect("equal", adjustable="datalim")
        if any(axes):
            panel.set_xlabel(axes[0])
            panel.set_ylabel(axes[1])
        else:
            panel.set_xticks([])
            panel.set_yticks([])
        legend_below(figure, [panel], panel.get_legend_handles_labels()[1])
