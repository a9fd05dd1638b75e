"""Metric filters: nothing evaluates them on the local AWS."""

import re


def figures(pipeline, line, function="track-message"):
    """The figures that the deployed metric filters take from a line of a function, by metric."""
    found = {}
    group = f"/aws/lambda/{pipeline.name}-{function}"
    for one in pipeline.stack.client("logs").describe_metric_filters(logGroupName=group)["metricFilters"]:
        # The part of the pattern language that the module uses.
        field, text = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', one["filterPattern"]).groups()
        if line.get(field) == text:
            (metric,) = one["metricTransformations"]
            value = metric["metricValue"]
            number = line[value.removeprefix("$.")] if value.startswith("$.") else float(value)
            assert isinstance(number, int | float)
            assert not isinstance(number, bool)
            found[metric["metricName"]] = number
    return found
