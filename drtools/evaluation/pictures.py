"""Plots of analyses as PNG files, in one style and with colours that colour-blind readers can distinguish."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from drtools.evaluation.curves import Curve, smoothed
from drtools.outputs.cache import cache_directory

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

# Okabe and Ito's palette without its yellow, which is faint on white
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#000000",
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, BLACK)
LINES = ("-", "--", ":", "-.")  # of a second, third, fourth round of colours
GREY, DARK_GREY, PALE = "#B8B8B8", "#555555", "#E6E6E6"
KIND_COLOURS = {
    "positives": BLUE,
    "negatives": ORANGE,
    "reinforced negatives": RED,
    "noisy positives": SKY,
    "negatives and dark": GREEN,
}
STYLE: dict[RcKeyType, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.parse_math": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": DARK_GREY,
    "axes.labelcolor": "#222222",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": DARK_GREY,
    "ytick.color": DARK_GREY,
    "legend.frameon": False,
    "axes.formatter.use_mathtext": False,
}
DOTS_PER_INCH = 150
WIDTH = 8.0  # inches
LONGEST_LABEL = 90  # characters; longer ones are cut in the middle


@contextmanager
def picture(
    path: Path,
    height: float,
    title: str,
    below: str,
    rows: int = 1,
    columns: int = 1,
    sharex: bool = False,
    sharey: bool = False,
) -> Iterator[tuple[Figure, list[Axes]]]:
    """Open a figure of `height` inches with a bold title and a grey line of explanation; save it at the end."""
    os.environ.setdefault("MPLCONFIGDIR", str(cache_directory() / "matplotlib"))
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with matplotlib.rc_context(STYLE):
        layout = ConstrainedLayoutEngine(
            rect=(0.0, 0.0, 1.0, 1 - 0.62 / height), w_pad=0.1, h_pad=0.08, hspace=0.04, wspace=0.04
        )
        figure = Figure(figsize=(WIDTH, height), dpi=DOTS_PER_INCH, layout=layout)
        figure.text(0.1 / WIDTH, 1 - 0.14 / height, title, fontsize=12, fontweight="bold", va="top")
        figure.text(0.1 / WIDTH, 1 - 0.40 / height, below, fontsize=9, color=DARK_GREY, va="top")
        axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey).ravel().tolist()
        yield figure, axes
        figure.savefig(path, format="png")


def legend_below(figure: Figure, axes: list[Axes], order: list[str]) -> None:
    """Put one legend for all panels below them."""
    found = {label: handle for panel in axes for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    if len(found) > 1:
        figure.legend(
            [found[label] for label in order], order, loc="outside lower center", ncols=_legend_columns(order)
        )


def _legend_columns(labels: list[str]) -> int:
    return max(1, 100 // (6 + max(map(len, labels))))


def _legend_height(labels: list[str]) -> float:
    """Return the inches that a legend below the panels takes."""
    return 0.15 + 0.21 * -(-len(labels) // _legend_columns(labels))


def _name(label: str) -> str:
    label = f" {label}" if label.startswith("_") else label  # matplotlib leaves such labels out of a legend
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL // 2 - 1]}…{label[-LONGEST_LABEL // 2 :]}"


def draw_errors(
    path: Path, bins: list[tuple[int, int]], panels: list[tuple[str, str, dict[str, list[float]]]], title: str
) -> None:
    """Draw shares by bin of errors: panels of (title, unit, {label: each bin's share}), with one bar for each label."""
    labels = [_name(label) for label in panels[0][2]]
    with picture(
        path,
        1.1 + 2.3 * len(panels) + _legend_height(labels),
        title,
        "one error: a document that is not relevant above one that is",
        rows=len(panels),
        sharex=True,
    ) as (figure, axes):
        for panel, (words, unit, runs) in zip(axes, panels, strict=True):
            width = 0.84 / len(runs)
            for place, (label, shares) in enumerate(runs.items()):
                left = [x - 0.42 + width * (place + 0.5) for x in range(len(bins))]
                panel.bar(
                    left,
                    [100 * share for share in shares],
                    width * 0.92,
                    color=COLOURS[place % len(COLOURS)],
                    label=_name(label),
                    hatch=("", "///", "xxx")[place // len(COLOURS) % 3],
                    edgecolor="white",
                    linewidth=0,
                )
            panel.set_xticks(range(len(bins)), [_bin_name(first) for first, _ in bins])
            panel.tick_params(axis="x", length=0, labelbottom=True)
            panel.set_xlim(-0.6, len(bins) - 0.4)
            panel.grid(axis="x", visible=False)
            panel.set_title(words)
            panel.set_ylabel(unit)
        axes[-1].set_xlabel("errors of a query: from the number under the bars to below the next")
        legend_below(figure, axes, labels)


def _bin_name(count: int) -> str:
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count // size}{unit}"
    return str(count)


def draw_shares(
    path: Path,
    series: dict[str, list[float]],
    bins: int,
    title: str,
    below: str,
    axis: str,
    low: float = 0.0,
    unit: str = "queries",
) -> None:
    """Draw histograms of values from `low` to 1: a panel for each name, with the mean as a line."""
    with picture(path, 1.3 + max(2.4, 1.5 * len(series)), title, below, rows=len(series), sharex=True, sharey=True) as (
        _,
        axes,
    ):
        for at, (panel, (label, values)) in enumerate(zip(axes, series.items(), strict=True)):
            colour = COLOURS[at % len(COLOURS)]
            mean = sum(values) / len(values)
            panel.hist(
                values,
                edges_of(low, bins),
                weights=[100 / len(values)] * len(values),
                color=colour,
                alpha=0.75,
                rwidth=0.94,
            )
            panel.axvline(mean, color=BLACK, linewidth=1.4)
            panel.set_title(f"{_name(label)}: {mean:.2f} on average (black line)")
            panel.set_ylabel(f"{unit} (%)")
            panel.grid(axis="x", visible=False)
        axes[-1].set_xlim(low, 1)
        axes[-1].set_xlabel(axis)


def edges_of(low: float, bins: int) -> list[float]:
    """Return the edges [bins + 1] of bins of equal width from `low` to 1."""
    return [low + (1 - low) * edge / bins for edge in range(bins + 1)]


def draw_tuning(path: Path, curves: dict[str, list[tuple[float, float]]], title: str, measure: str) -> None:
    """Draw a measure over a weight: a curve for each name, with a ring around its best point."""
    labels = [_name(label) for label in curves]
    with picture(
        path,
        3.6 + _legend_height(labels),
        title,
        "each weight that was tried on dev; ringed: the best, the smallest of equals",
    ) as (figure, (panel,)):
        for place, (label, curve) in enumerate(curves.items()):
            colour = COLOURS[place % len(COLOURS)]
            panel.plot(
                *zip(*curve, strict=True),
                color=colour,
                linestyle=LINES[place // len(COLOURS) % len(LINES)],
                marker="o",
                markersize=3.5,
                linewidth=1.8,
                label=_name(label),
            )
            panel.scatter(
                *max(curve, key=lambda pair: (pair[1], -pair[0])),
                s=110,
                facecolors="none",
                edgecolors=colour,
                linewidths=1.6,
                zorder=4,
            )
        panel.set_xscale("symlog", linthresh=1, linscale=2)
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        panel.set_xlabel("weight")
        panel.set_ylabel(measure)
        legend_below(figure, [panel], labels)


def draw_scores(path: Path, edges: list[float], files: dict[str, dict[str, list[int]]], title: str) -> None:
    """Draw histograms of the scores in examples: a panel for each file, with an outline for each kind."""
    below = "each outline holds all items of its kind, so that kinds of different size compare"
    with picture(path, 1.0 + 2.6 * len(files), title, below, rows=len(files), sharex=True) as (_, axes):
        for panel, (label, kinds) in zip(axes, files.items(), strict=True):
            for kind, counts in kinds.items():
                shares = [100 * count / sum(counts) for count in counts]
                together = " and " in kind  # holds other kinds: a dashed line above their areas
                panel.stairs(shares, edges, fill=True, color=KIND_COLOURS[kind], alpha=0.0 if together else 0.15)
                panel.stairs(
                    shares,
                    edges,
                    color=KIND_COLOURS[kind],
                    linewidth=1.8,
                    linestyle="--" if together else "-",
                    label=f"{kind} ({sum(counts):,})",
                )
            panel.set_ylim(bottom=0)
            panel.set_ylabel("items of the kind (%)")
            panel.grid(axis="x", visible=False)
            if len(files) > 1:
                panel.set_title(_name(label))
            panel.legend(loc="best")
        axes[-1].set_xlabel("score")


def draw_curves(
    path: Path, numbers: dict[str, dict[str, Curve]], labels: Sequence[str], title: str, over: str = "step"
) -> None:
    """Draw values over steps, or over another count: a panel for each value, with a curve for each log that has it."""
    from matplotlib.ticker import MaxNLocator

    columns = 1 if len(numbers) == 1 else 2
    rows = -(-len(numbers) // columns)
    long = any(smoothed(curve.values) for curves in numbers.values() for curve in curves.values())
    below = (
        "bold: mean of 5% of the points around each; faint: every point"
        if long
        else f"every {'publication' if over == 'publication' else 'point of the logs'}"
    )
    names = [_name(label) for label in labels if any(label in curves for curves in numbers.values())]
    with picture(path, 1.0 + 2.5 * rows + _legend_height(names), title, below, rows, columns, sharex=True) as (
        figure,
        axes,
    ):
        for panel, (name, curves) in zip(axes, numbers.items(), strict=False):
            for label, curve in curves.items():
                place = list(labels).index(label)
                colour = COLOURS[place % len(COLOURS)]
                bold = smoothed(curve.values)
                if bold:
                    panel.plot(curve.steps, curve.values, color=colour, alpha=0.22, linewidth=0.7)
                panel.plot(
                    curve.steps,
                    bold or curve.values,
                    color=colour,
                    linestyle=LINES[place // len(COLOURS) % len(LINES)],
                    linewidth=1.8,
                    label=_name(label),
                    marker="o" if len(curve.steps) <= 30 else None,
                    markersize=3.5,
                )
            panel.set_title(name)
            panel.grid(axis="x", visible=False)
            panel.tick_params(labelbottom=True)
            panel.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 2.5, 5, 10]))
            panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        for panel in axes[len(numbers) :]:
            panel.set_axis_off()
        for panel in axes[max(0, len(numbers) - columns) : len(numbers)]:
            panel.set_xlabel(over)
        legend_below(figure, axes, names)
