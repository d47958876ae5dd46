"""Plots of cost against size for docs/performance.md, from what the benchmarks kept in benchmarks/results.json.

    make bench-plots       # measures the sizes (an hour on a quiet machine), then draws
    python -m benchmarks.plots

Each plot has one line a side of the comparison. Where costs are powers of the size, both axes are logarithmic.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from benchmarks.harness import DETAILS, RESULTS

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images" / "bench"


@dataclass(frozen=True)
class Plot:
    """One picture: `details[benchmark]["sizes"]` is a list of {x: size, side: cost, …}."""

    benchmark: str
    x: str
    x_label: str
    y_label: str
    drop: tuple[str, ...] = ()
    log: Literal["both", "size", "none"] = "both"


PLOTS = (
    Plot("cached_tuning", "image size", "image size, pixels", "processor seconds a step"),
    Plot("streaming_metrics", "side", "side of a map, pixels", "processor milliseconds a map"),
    Plot(
        "evaluate_memory", "images", "test images", "peak memory of evaluate, MiB", ("seconds",), log="none"
    ),
    Plot(
        "scoring",
        "picture side",
        "side of the picture file, pixels",
        "processor milliseconds an image",
        log="size",
    ),
    Plot("orchestration", "stages", "stages that ran", "seconds", log="none"),
    Plot("workers", "stages", "stages that ran", "seconds", log="none"),
)


def draw(plot: Plot, rows: list[dict[str, Any]], target: Path) -> None:
    """Write one picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullLocator, ScalarFormatter

    figure, axes = pyplot.subplots(figsize=(6, 3.4), dpi=110, layout="constrained")
    sizes = [row[plot.x] for row in rows]
    for side in (key for key in rows[0] if key != plot.x and key not in plot.drop):
        axes.plot(sizes, [row[side] for row in rows], marker="o", markersize=4, label=side)
    if plot.log == "none":
        axes.set_xlim(left=0)
    else:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.set_xticks(sizes)
    if plot.log == "both":
        axes.set_yscale("log")
    else:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(plot.y_label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Software": None})
    pyplot.close(figure)


def main() -> None:
    """Draw every plot whose sizes were measured; name those that were not."""
    details = json.loads(RESULTS.read_text(encoding="utf-8"))[DETAILS]
    for plot in PLOTS:
        rows = details.get(plot.benchmark, {}).get("sizes")
        if rows:
            draw(plot, rows, FOLDER / f"{plot.benchmark}.png")
            print(f"{FOLDER.name}/{plot.benchmark}.png")
        else:
            print(f"{plot.benchmark}: not measured yet, python -m benchmarks.{plot.benchmark} sizes")


if __name__ == "__main__":
    main()
