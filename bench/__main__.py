"""`make bench`: measures, prints the table, writes bench/results/<date>.json."""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import encodings, report
from .cases import SIZES, Bodies, cases
from .figures import order
from .floor import Floor
from .local import Local
from .subjects import ROOT, AsDeployed, Ours, Streaming


def main():
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--size", choices=SIZES, default="full", help="full also writes latest.json, the one that is kept"
    )
    parser.add_argument("--rounds", type=int, help="how many; an even number has as many in each order")
    parser.add_argument("--only", default="", help="only cases whose id holds this, for example fetch")
    parser.add_argument("--zips", type=Path, default=ROOT / "dist", help="the folder of the functions' zips")
    parser.add_argument("--results", type=Path, default=ROOT / "bench" / "results", help="the folder for results")
    arguments = parser.parse_args()

    # As an exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = SIZES[arguments.size]
    rounds = arguments.rounds or size.rounds
    load = round(os.getloadavg()[0], 2)
    with tempfile.TemporaryDirectory(prefix="mesh-aws-bench-") as folder, Local(Path(folder)) as place:
        ours = Ours(place, arguments.zips)
        subjects, floor = [ours, Streaming(place), AsDeployed(place)], Floor(place)
        bodies = Bodies(size)
        chosen = [case for case in cases(size, bodies) if arguments.only in case.id]
        measured = {case.id: {} for case in chosen}
        for case in chosen:
            if case.with_floor:
                # A server's first large transfer takes longer than any later one.
                case.run(floor)
        for number in range(rounds):
            for case in chosen:
                everyone = [*subjects, floor] if case.with_floor else subjects
                for subject in order(everyone, number) * case.repeat:
                    place.reset()
                    started = time.monotonic()
                    for metric, value in case.run(subject).items():
                        measured[case.id].setdefault(subject.name, {}).setdefault(metric, []).append(value)
                    say(
                        f"round {number + 1}: {case.name}, {subject.name}: {time.monotonic() - started:.1f} s with set-up"
                    )
        result = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": commit(),
            "machine": machine() | {"load_before": load},
            "size": arguments.size,
            "rounds": rounds,
            "names": {case.id: case.name for case in chosen},
            "measured": measured,
            "accept-encoding": [],
            "sizes": ours.sizes,
        }
        latest = arguments.size == "full" and not arguments.only
        # Whatever becomes of the rest.
        write(arguments.results, result, latest)
        encoded = [] if arguments.only not in "accept-encoding" else encodings.measure(place, arguments.zips, bodies, rounds, say)

    write(arguments.results, result | {"accept-encoding": encoded}, latest)
    print(report.text(result))
    if encoded:
        print(f"\n{encodings.text(encoded)}")


def write(folder, result, latest):
    """Writes the result under its date, and as the latest if it is one to be shown."""
    folder.mkdir(exist_ok=True)
    for name in [result["date"].replace(":", "").removesuffix("+0000"), *(["latest"] if latest else [])]:
        (folder / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        say(f"written: {folder / name}.json")


def machine():
    """What it ran on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}


def commit():
    """What was measured."""
    done = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
