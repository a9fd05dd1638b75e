"""The table: medians, spreads and ratios beside the figures to reach."""

import dataclasses

from .figures import figure, paired_ratio

MIB = 1024 * 1024
OURS, PYTHON, AS_DEPLOYED, FLOOR = "ours", "python", "python as deployed", "floor"
# How a metric is shown: its unit, and what a value is multiplied with.
UNITS = {"wall": ("ms", 1000), "cpu": ("ms CPU", 1000), "peak": ("MiB peak", 1), "bytes": ("MiB sent", 1 / MIB)}


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure to reach: ours at most so many times another subject's, or never more than so much."""

    case: str
    metric: str
    against: str | None
    limit: float
    text: str


TARGETS = (
    Target("cold-poll", "wall", PYTHON, 1 / 20, "under 1/20 of python"),
    Target("warm-poll", "cpu", PYTHON, 1 / 5, "under 1/5 of python"),
    Target("small-messages", "cpu", PYTHON, 1 / 10, "under 1/10 of python"),
    Target("fetch-chunks", "wall", FLOOR, 1.15, "within 1.15 of the floor"),
    Target("fetch-chunks", "peak", None, 64, "under 64 MiB"),
    Target("fetch-single", "peak", None, 64, "under 64 MiB"),
    Target("send", "wall", FLOOR, 1.25, "within 1.25 of the floor"),
    Target("send", "peak", None, 64, "under 64 MiB"),
    Target("send-compressed", "wall", PYTHON, 1 / 5, "under 1/5 of python"),
    Target("send-compressed", "bytes", PYTHON, 1.03, "at most 1.03 of python"),
    Target("send-compressed", "peak", None, 64, "under 64 MiB"),
)
# What is worth a line beside the targets.
SHOWN = {
    "cold-poll": ("wall", "cpu", "peak"),
    "warm-poll": ("cpu", "wall"),
    "small-messages": ("cpu", "wall", "peak"),
    "fetch-chunks": ("wall", "cpu", "peak"),
    "fetch-single": ("wall", "cpu", "peak"),
    "send": ("wall", "cpu", "peak"),
    "send-compressed": ("wall", "cpu", "peak", "bytes"),
}
HEAD = ("what", "", "ours", "python", "as deployed", "floor", "/python", "/as deployed", "/floor", "to reach", "")


def judged(target, measured):
    """What was reached of a target."""
    ours = measured[OURS][target.metric]
    if target.against is None:
        # A bound on memory holds in each round.
        return "reached" if max(ours) <= target.limit else "MISSED"
    against = [PYTHON, AS_DEPLOYED] if target.against == PYTHON else [target.against]
    reached = [paired_ratio(ours, measured[subject][target.metric]) <= target.limit for subject in against]
    # The replaced module's own way may be beaten where Python at its best is not.
    return "reached" if reached[0] else "MISSED; as deployed: reached" if any(reached) else "MISSED"


def lines(result):
    """The table's lines, as tuples of the columns of HEAD."""
    for case, metrics in SHOWN.items():
        if case not in result["measured"]:
            continue
        measured = result["measured"][case]
        for metric in metrics:
            unit, factor = UNITS[metric]
            # curl's CPU and memory are no floor: nobody stores with two curls.
            subjects = [OURS, PYTHON, AS_DEPLOYED, FLOOR if metric == "wall" else None]
            cells = [_cell(measured, subject, metric, factor) for subject in subjects]
            ratios = [_ratio(measured, subject, metric) for subject in subjects[1:]]
            target = next((one for one in TARGETS if (one.case, one.metric) == (case, metric)), None)
            verdict = ("", "") if target is None else (target.text, judged(target, measured))
            yield (result["names"][case] if metric == metrics[0] else "", unit, *cells, *ratios, *verdict)


def _cell(measured, subject, metric, factor):
    if subject not in measured:
        return ""
    found = figure([value * factor for value in measured[subject][metric]])
    return f"{_number(found.median)} ±{found.spread / 2:.0%}"


def _ratio(measured, subject, metric):
    if subject not in measured:
        return ""
    return f"{paired_ratio(measured[OURS][metric], measured[subject][metric]):.3f}"


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def text(result):
    """All of it, to be read in a terminal."""
    rows = [HEAD, *lines(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    table = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    sizes = [
        f"{package}: {size['binary'] / 1e6:.1f} MB, zipped {size['zip'] / 1e6:.1f} MB"
        for package, size in result["sizes"].items()
    ]
    machine = result["machine"]
    where = f"{result['date']}, {result['commit']}, {machine['cpu']}, {machine['cores']} cores"
    rounds = f"{result['rounds']} rounds, every second one in reverse order; medians, ± half the distance between the extremes"
    load = f"load before the run: {machine['load_before']}" + (
        "; that is other work, and figures mean little" if busy(machine) else ""
    )
    return "\n".join([where, rounds, load, "", *(line.rstrip() for line in table), "", "binaries: " + "; ".join(sizes)])


def busy(machine):
    """Whether something else was running."""
    return machine["load_before"] > 0.5
