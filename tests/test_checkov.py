"""What tests/checkov/run.py makes of checkov's report."""

import importlib.util
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "checkov/run.py"
SUMMARY = {"passed": 3, "failed": 0, "skipped": 0, "resource_count": 2}


def found(summary=(), **results):
    spec = importlib.util.spec_from_file_location("run", RUN)
    run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(run)
    empty = {"parsing_errors": [], "failed_checks": [], "skipped_checks": []}
    return run.found({"summary": SUMMARY | dict(summary), "results": empty | results})


def check(comment=None):
    result = {} if comment is None else {"suppress_comment": comment}
    where = {"file_path": "/main.tf", "file_line_range": [3, 9], "resource": "aws_s3_bucket.mesh"}
    return where | {"check_id": "CKV_1", "check_name": "It is good", "check_result": result}


def test_a_good_report_is_its_numbers():
    assert found(skipped_checks=[check("for a reason")]) == ["checkov: 3 passed, 0 failed, 0 skipped"]


@pytest.mark.parametrize(
    ("results", "line"),
    [
        ({"parsing_errors": ["/bad.tf"]}, "checkov could not read /bad.tf"),
        ({"failed_checks": [check()]}, "terraform/main.tf:3 aws_s3_bucket.mesh: CKV_1 It is good"),
        ({"skipped_checks": [check()]}, "terraform/main.tf:3 aws_s3_bucket.mesh: the skip of CKV_1 gives no reason"),
        ({"skipped_checks": [check("No comment provided")]}, "terraform/main.tf:3 aws_s3_bucket.mesh: the skip of CKV_1 gives no reason"),
    ],
    ids=["unreadable", "failed", "skip without comment", "skip with checkov's own"],
)
def test_a_problem_has_a_line(results, line):
    assert found(**results)[:-1] == [line]


@pytest.mark.parametrize("number", ["passed", "resource_count"])
def test_a_report_about_nothing_is_none(number):
    with pytest.raises(SystemExit, match="no resource to check"):
        found({number: 0})
