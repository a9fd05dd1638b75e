#!/usr/bin/env python3
"""Draws a result as SVG: `plot.py RESULT.json`, beside it. Needs the packages of bench/requirements.txt."""

import json
import sys
from pathlib import Path

import matplotlib

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.figures import figure  # noqa: E402
from bench.report import AS_DEPLOYED, FLOOR, OURS, PYTHON, TARGETS, UNITS  # noqa: E402

# Text stays text, and the same result gives the same file.
matplotlib.use("svg")
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.family": "sans-serif", "font.size": 9}
from matplotlib import pyplot  # noqa: E402

COLOURS = {OURS: "#005eb8", PYTHON: "#8a9299", AS_DEPLOYED: "#c5cace", FLOOR: "#212b32"}
LABELS = {
    OURS: "this module",
    PYTHON: "mesh-client and boto3 as well as they allow",
    AS_DEPLOYED: "mesh-client and boto3 as in the NHS's module",
    FLOOR: "floor: curl",
}
BAR = 0.22


def rows(result):
    """What is drawn: name, metric, and each subject's figure, for all that has a figure to reach."""
    for target in TARGETS:
        measured = result["measured"].get(target.case)
        if measured and target.metric != "bytes":
            unit, factor = UNITS[target.metric]
            found = {
                subject: figure([value * factor for value in values[target.metric]])
                for subject, values in measured.items()
                if subject != FLOOR or target.metric == "wall"
            }
            yield f"{result['names'][target.case]}, {unit}", found


def draw(result, file):
    """Writes the picture."""
    drawn = list(rows(result))
    chart, axes = pyplot.subplots(figsize=(9, 0.62 * len(drawn) + 1.4), layout="constrained")
    for row, (_, found) in enumerate(drawn):
        one = found[PYTHON].median
        for place, subject in enumerate(subject for subject in COLOURS if subject in found):
            median, at = found[subject].median, row + (place - (len(found) - 1) / 2) * BAR
            low, high = median - found[subject].low, found[subject].high - median
            axes.barh(
                at, median / one, BAR * 0.86, color=COLOURS[subject], xerr=[[low / one], [high / one]], ecolor="#4c6272"
            )
            label = f"{median:,.0f}" if median >= 10 else f"{median:.1f}"
            axes.annotate(
                label, (found[subject].high / one, at), (3, 0), textcoords="offset points", va="center", fontsize=7.5
            )
    axes.set_xscale("log")
    axes.set_xlim(left=0.02)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_yticks(range(len(drawn)), [name for name, _ in drawn])
    axes.invert_yaxis()
    axes.axvline(1, color=COLOURS[PYTHON], linewidth=0.6, zorder=0)
    axes.set_xlabel("times mesh-client and boto3 as well as they allow; less is better, the scale is logarithmic")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [pyplot.Rectangle((0, 0), 1, 1, color=colour) for colour in COLOURS.values()]
    chart.legend(handles, [LABELS[subject] for subject in COLOURS], loc="outside upper left", ncols=2, frameon=False)
    machine = result["machine"]
    chart.supxlabel(
        f"{result['date'][:10]}, {machine['cpu']}, {machine['cores']} cores; medians of {result['rounds']} rounds in both orders, "
        "whiskers: extremes",
        fontsize=7.5,
        color="#4c6272",
    )
    chart.savefig(file, metadata={"Date": None})


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} RESULT.json")
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text()), source.with_suffix(".svg"))
    print(f"written: {source.with_suffix('.svg')}", file=sys.stderr)


if __name__ == "__main__":
    main()
