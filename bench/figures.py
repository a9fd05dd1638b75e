"""The harness' statistics: medians, spreads and ratios."""

import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Figure:
    """What one subject's measurements of one thing came to."""

    median: float
    low: float
    high: float
    count: int

    @property
    def spread(self):
        """The distance between the extremes as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def figure(values):
    """The figure of the values, of which there must be one at least."""
    values = list(values)
    if not values:
        raise ValueError("nothing was measured")
    return Figure(statistics.median(values), min(values), max(values), len(values))


def paired_ratio(ours, theirs):
    """The median of the rounds' ratios: what slows down a whole round weighs on both sides of it."""
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} and {len(theirs)} measurements are not of the same rounds")
    if any(value <= 0 for value in theirs):
        raise ValueError("a measurement of nothing can't be compared with")
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def order(subjects, round_number):
    """The subjects' order in a round: every second round has it reversed."""
    return list(subjects) if round_number % 2 == 0 else list(reversed(subjects))
