#!/usr/bin/env python3
"""Writes the cost tables of docs/cost-and-limits.md from its table of counts and prices; with --check, says whether they are what it would write.

Each price is an option: scripts/costs.py --print --table-write 0.8
"""

import argparse
import re
import sys
from pathlib import Path

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/cost-and-limits.md"
COUNTS = ("transitions", "events", "payload bytes", "invocations", "table writes", "table reads", "S3 writes", "S3 reads", "events put", "MESH requests")
# Dollars a million, but for the last two: a GB-second, a GB of logs.
PRICES = {
    "transition": 25.00,
    "invocation": 0.20,
    "table_write": 0.742,
    "table_read": 0.1484,
    "s3_write": 5.30,
    "s3_read": 0.42,
    "event": 1.00,
    "gb_second": 0.0000166667,
    "log_gb": 0.5985,
}
# What can't be counted but has to be assumed; the benchmark has the CPU's share.
# A write of a row is one of its indexes as well, a read of ten rows is ten. Log lines were measured.
ASSUMED = {"write_units": 3, "read_units": 10, "seconds": 0.5, "memory_gb": 0.25, "call_log_bytes": 1_200, "event_log_bytes": 300, "mb_per_second": 50}
# What 256 MB have of a processor, 256/1,769, compresses of the 35 MB a second and processor that the benchmark found.
COMPRESSED_MB_PER_SECOND = 5
CHUNK = 20 * 2**20
MILLION = 1_000_000
HOURS = 730
# S3's own events, which a bucket opts into and EventBridge charges for: one for each object.
OBJECTS = {"1 small message received": 1, "10 small messages received": 10, "1 small object sent": 1}
NOTHING, COLLECTED = "a tracking run that finds nothing to do", "a tracking run that finds one message collected"


def counts(text):
    """The table of counts, by job."""
    table = text.partition("<!-- counts -->")[2].partition("<!-- end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines()[2:]]
    return {row[0]: dict(zip(COUNTS, (int(cell.replace(",", "")) for cell in row[1:]), strict=True)) for row in rows}


def dollars(job, prices, seconds=ASSUMED["seconds"]):
    """What one run of the job costs, by service."""
    return {
        "Step Functions": job["transitions"] * prices["transition"] / MILLION,
        "Lambda": job["invocations"] * (prices["invocation"] / MILLION + seconds * ASSUMED["memory_gb"] * prices["gb_second"]),
        "DynamoDB": (job["table writes"] * ASSUMED["write_units"] * prices["table_write"] + job["table reads"] * ASSUMED["read_units"] * prices["table_read"]) / MILLION,
        "S3 requests": (job["S3 writes"] * prices["s3_write"] + job["S3 reads"] * prices["s3_read"]) / MILLION,
        "EventBridge": job["events put"] * prices["event"] / MILLION,
        "logs": (job["events"] * ASSUMED["event_log_bytes"] + (job["invocations"] + job["MESH requests"]) * ASSUMED["call_log_bytes"]) * prices["log_gb"] / 1e9,
    }


SIZE = 100 * 10**9


def large(prices):
    """100 GB as one message: parts of 8 MiB, from the 5,001st of 16; invocations of 15 minutes; the row is told of every fourth part."""
    parts = 5_000 + -(-(SIZE - 5_000 * 8 * 2**20) // (16 * 2**20))
    seconds = SIZE / (ASSUMED["mb_per_second"] * MILLION)
    rounds = -(-seconds // (900 - 45))
    job = dict.fromkeys(COUNTS, 0) | {"transitions": 7 + 2 * rounds, "invocations": 2 + rounds, "S3 writes": parts + 2, "table writes": parts // 4}
    return dollars(job, prices, seconds / (2 + rounds)), parts, int(rounds)


def large_sent(prices, mb_per_second):
    """The same, sent: the row is told of every chunk."""
    chunks = -(-SIZE // CHUNK)
    seconds = SIZE / (mb_per_second * MILLION)
    rounds = -(-seconds // (900 - 60))
    job = dict.fromkeys(COUNTS, 0) | {"transitions": 3 + 2 * rounds, "invocations": rounds, "S3 reads": chunks, "table writes": chunks, "MESH requests": chunks}
    return dollars(job, prices, seconds / rounds), chunks, int(rounds)


def lines(rows):
    """A Markdown table; the largest cost first."""
    services = list(rows[0][1])
    yield f"| | {' | '.join(services)} | together |"
    yield "|---|" + "---:|" * (len(services) + 1)
    for name, costs in rows:
        cells = [f"{costs[service]:,.2f}" for service in services]
        yield f"| {name} | {' | '.join(cells)} | **{sum(costs.values()):,.2f}** |"


def tables(text, prices):
    jobs = counts(text)
    for name, objects in OBJECTS.items():
        jobs[name]["events put"] += objects

    def times(job, factor):
        return {service: cost * factor for service, cost in dollars(jobs[job], prices).items()}

    # What finding out about a message adds to a run that comes anyway, and finds out about ten.
    shares = {name: 10 if name in ("transitions", "events", "invocations", "table reads") else 1 for name in COUNTS}
    jobs["sent"] = {name: jobs["1 small object sent"][name] + (jobs[COLLECTED][name] - jobs[NOTHING][name]) / shares[name] for name in COUNTS}

    big, parts, rounds = large(prices)
    sent, chunks, plain_rounds = large_sent(prices, ASSUMED["mb_per_second"])
    compressed, _, compressed_rounds = large_sent(prices, COMPRESSED_MB_PER_SECOND)
    rows = [
        ("a million small messages received, ten a poll", times("10 small messages received", MILLION / 10)),
        ("a million small messages received, one a poll", times("1 small message received", MILLION)),
        ("a million small objects sent, and what became of them found out, ten a run", times("sent", MILLION)),
        ("an idle mailbox, a month: a poll each minute, a handshake each hour", times("a poll that finds nothing", 61 * HOURS)),
        ("an instance, a month: a tracking run each five minutes", times(NOTHING, 12 * HOURS)),
        (f"100 GB received as one message: {parts:,} parts, {rounds} invocations", big),
        (f"100 GB sent as one message, not compressed: {chunks:,} chunks, {plain_rounds} invocations", sent),
        (f"100 GB sent as one message, compressed: {chunks:,} chunks, {compressed_rounds} invocations", compressed),
    ]
    return "\n".join(lines(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="fail if the document holds other figures")
    parser.add_argument("--print", action="store_true", help="print the table and change nothing")
    for name, price in PRICES.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=price, metavar="DOLLARS", help=f"default {price}")
    options = vars(parser.parse_args())
    text = DOCUMENT.read_text()
    made = tables(text, {name: options[name] for name in PRICES})
    if options["print"]:
        print(made)
        return
    written = re.sub(r"(?<=<!-- costs -->\n\n).*?(?=\n\n<!-- end -->)", lambda _: made, text, flags=re.DOTALL)
    if options["check"] and written != text:
        sys.exit("docs/cost-and-limits.md holds other costs than its counts make: run scripts/costs.py")
    DOCUMENT.write_text(written)


if __name__ == "__main__":
    main()
