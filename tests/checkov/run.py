"""Runs checkov over the module and its examples. A failed check fails, and so does a skip without a reason.

    $(scripts/venv tests/checkov) tests/checkov/run.py
"""

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
TERRAFORM = HERE.parents[1] / "terraform"
# What checkov takes for the reason of a skip that gives none.
NO_REASON = "No comment provided"


def main():
    checkov = [sys.executable, "-m", "checkov.main", "--config-file", HERE / "config.yaml", "--directory", TERRAFORM]
    # 1: a check failed, which the report tells in full.
    done = subprocess.run(checkov, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        sys.exit(f"checkov ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    problems = found(json.loads(done.stdout))
    print("\n".join(problems))
    sys.exit(bool(problems[:-1]))


def found(report):
    """A line for each problem, and last the numbers."""
    summary, results = report["summary"], report["results"]
    if not summary["passed"] or not summary["resource_count"]:
        sys.exit("checkov found no resource to check")
    lines = {f"checkov could not read {file}" for file in results["parsing_errors"]}
    for check in results["failed_checks"]:
        lines.add(f"{place(check)}: {check['check_id']} {check['check_name']}")
    for check in results["skipped_checks"]:
        if check["check_result"].get("suppress_comment", NO_REASON).strip() in ("", NO_REASON):
            lines.add(f"{place(check)}: the skip of {check['check_id']} gives no reason")
    numbers = ", ".join(f"{summary[kind]} {kind}" for kind in ("passed", "failed", "skipped"))
    return [*sorted(lines), f"checkov: {numbers}"]


def place(check):
    return f"terraform{check['file_path']}:{check['file_line_range'][0]} {check['resource']}"


if __name__ == "__main__":
    main()
