"""The page's plots, each drawn for a light and for a dark page; same data, same bytes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from flawline.report.pictures import inline

DPI = 150
LEGEND_INSIDE = 5
_BESIDE = 2  # names in a row of a legend below the axes
# Told apart without colour as well: every line of a plot has its own dash.
DASHES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


@dataclass(frozen=True)
class Theme:
    ink: str
    faint: str
    ground: str
    baseline: str
    lines: tuple[str, ...]


LIGHT = Theme(
    "#1c2430", "#d9dee6", "#ffffff", "#6b7686",
    ("#1f6feb", "#c2410c", "#0f8a5f", "#8b3fd1", "#b3261e", "#0e7490", "#a16207", "#be185d"),
)  # fmt: skip
DARK = Theme(
    "#e4e9f0", "#39424f", "#171c24", "#98a3b3",
    ("#6cb0ff", "#ff9d5c", "#4fd1a1", "#c79bff", "#ff8a80", "#5fd3ea", "#e8c15a", "#ff8fc0"),
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        x, y: [k] its points.
        label: its words in the legend; empty: it has none.
        order: picks colour and (if `dashed`) dash: 0 is the baseline, then methods.
        strong: False: thin and pale, one of many.
        width: of a strong line, in points.
        band: [k] lower and [k] upper bound of a shade around it, or None.
    """

    x: Sequence[float]
    y: Sequence[float]
    label: str
    order: int
    strong: bool = True
    dashed: bool = True
    width: float = 2.0
    band: tuple[Sequence[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Picture:
    """A plot in both themes as data URLs, its size in pixels, and the words for those who cannot see it."""

    light: Markup
    dark: Markup
    alt: str
    width: int
    height: int

    @property
    def size(self) -> int:
        return len(self.light) + len(self.dark)


def plot(
    lines: list[Line],
    alt: str,
    x_label: str,
    y_label: str,
    title: str = "",
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    diagonal: bool = False,
) -> Picture:
    """Lines over one pair of axes, 4.4 x 3.5 inches; more than LEGEND_INSIDE names stand below the axes.

    Args:
        lines: drawn in their order; only lines with a label stand in the legend.
        alt: what the picture shows, in a sentence.
        x_label, y_label, title: words on it.
        x_limits, y_limits: ends of the axes; None lets the data decide.
        diagonal: whether to draw chance.
    """
    drawn = []
    named = sum(bool(line.label) for line in lines)
    below = -(-named // _BESIDE) if named > LEGEND_INSIDE else 0
    inches = 4.4, 3.5 + (0.1 + 0.18 * below if below else 0)
    for theme in (LIGHT, DARK):
        with style.context(["default", _style(theme)]):
            figure = Figure(figsize=inches, dpi=DPI, layout="constrained")
            axes = figure.add_subplot()
            if diagonal:
                axes.plot([0, 1], [0, 1], color=theme.faint, linewidth=1.2, zorder=1)
            for line in lines:
                _draw(axes, line, theme)
            axes.set(xlabel=x_label, ylabel=y_label, xlim=x_limits, ylim=y_limits)
            axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
            looks = {"frameon": False, "fontsize": 8.5, "handlelength": 2.6}
            if below:
                # Inside it would lie on the curves.
                figure.legend(loc="outside lower center", ncols=_BESIDE, columnspacing=1.2, **looks)
            elif named:
                axes.legend(loc="lower right", **looks)
            drawn.append(inline(_png(figure), "png"))
    return Picture(drawn[0], drawn[1], alt, *(round(DPI * side) for side in inches))


def _draw(axes: Axes, line: Line, theme: Theme) -> None:
    colour = theme.lines[(line.order - 1) % len(theme.lines)] if line.order else theme.baseline
    if line.band:
        axes.fill_between(line.x, *line.band, color=colour, alpha=0.16, linewidth=0, zorder=1.5)
    axes.plot(
        line.x,
        line.y,
        color=colour,
        linestyle=DASHES[line.order % len(DASHES)] if line.dashed else "-",
        linewidth=line.width if line.strong else 0.9,
        alpha=1 if line.strong else 0.45,
        label=line.label or None,
        zorder=3 if line.strong else 2,
    )


def _style(theme: Theme) -> dict[str, Any]:
    return {
        "font.family": "DejaVu Sans", "font.size": 9, "text.color": theme.ink,
        "axes.labelcolor": theme.ink, "axes.edgecolor": theme.faint, "axes.facecolor": theme.ground,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": theme.faint,
        "grid.linewidth": 0.6, "xtick.color": theme.ink, "ytick.color": theme.ink,
        "figure.facecolor": theme.ground, "savefig.facecolor": theme.ground, "axes.axisbelow": True,
        "text.parse_math": False,
    }  # fmt: skip


def _png(figure: Figure) -> bytes:
    """The figure as PNG without the name of the program, so that only what is drawn decides the bytes."""
    stream = io.BytesIO()
    FigureCanvasAgg(figure).print_png(stream, metadata={"Software": None})
    return stream.getvalue()


def mean_curve(curves: list[tuple[list[float], list[float]]], grid: np.ndarray) -> np.ndarray:
    """The vertical mean of several rising curves on a grid; at a jump the upper value counts.

    Args:
        curves: (x, y) each, x not falling.
        grid: [k] where to read them.
    """
    read = []
    for x, y in curves:
        # np.interp needs one value an x: of a vertical piece keep its upper end.
        xs, last = np.unique(np.asarray(x)[::-1], return_index=True)
        read.append(np.interp(grid, xs, np.asarray(y)[::-1][last]))
    return np.mean(read, axis=0)
