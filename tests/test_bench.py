"""The benchmark: its statistics, its verdicts, its S3, and a tiny run of all of it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.exceptions import ClientError

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from bench import report  # noqa: E402
from bench.figures import figure, order, paired_ratio  # noqa: E402
from bench.local import KEYS, REGION, s3_server  # noqa: E402
from bench.subjects import Ours  # noqa: E402


def test_a_figure_is_the_median_and_its_spread_the_distance_of_the_extremes():
    found = figure([5.0, 1.0, 2.0, 8.0])
    assert (found.median, found.low, found.high, found.count) == (3.5, 1.0, 8.0, 4)
    assert found.spread == 2
    assert figure([0.0]).spread == 0
    with pytest.raises(ValueError, match="nothing was measured"):
        figure([])


def test_a_ratio_pairs_what_was_measured_in_one_round():
    # The second round was slow for both; the ratio of the medians would be 1.5.
    assert paired_ratio([1, 9, 3], [2, 6, 2]) == 1.5
    assert paired_ratio([1, 20, 3], [2, 40, 2]) == 0.5
    with pytest.raises(ValueError, match="1 and 2 measurements"):
        paired_ratio([1], [1, 2])
    with pytest.raises(ValueError, match="a measurement of nothing"):
        paired_ratio([1], [0])


def test_every_second_round_is_in_reverse_order():
    assert [order("abc", number) for number in range(3)] == [["a", "b", "c"], ["c", "b", "a"], ["a", "b", "c"]]


@pytest.mark.parametrize(
    ("ours", "python", "as_deployed", "verdict"),
    [(5, 100, 100, "reached"), (5.1, 100, 102, "MISSED; as deployed: reached"), (5.1, 100, 100, "MISSED")],
)
def test_a_verdict_names_the_stronger_of_the_peers_that_is_beaten(ours, python, as_deployed, verdict):
    target = report.Target("cold-poll", "wall", report.PYTHON, 1 / 20, "")
    values = {report.OURS: ours, report.PYTHON: python, report.AS_DEPLOYED: as_deployed}
    assert report.judged(target, {subject: {"wall": [value]} for subject, value in values.items()}) == verdict


@pytest.mark.parametrize(("peak", "verdict"), [(64, "reached"), (64.1, "MISSED")])
def test_a_verdict_on_memory_is_about_ours_alone_and_its_worst_round(peak, verdict):
    target = report.Target("send", "peak", None, 64, "")
    assert report.judged(target, {report.OURS: {"peak": [1, peak, 2]}, report.PYTHON: {"peak": [1, 1, 1]}}) == verdict


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as url:
        yield boto3.client("s3", endpoint_url=url, region_name=REGION, **KEYS)


def code(call, **arguments):
    with pytest.raises(ClientError) as error:
        call(Bucket="b", **arguments)
    return error.value.response["Error"]["Code"]


def test_the_benchs_s3_keeps_bytes_metadata_and_ranges(s3):
    s3.put_object(Bucket="b", Key="a%b/ä", Body=b"0123456789", Metadata={"mex-to": "X"}, ContentType="text/csv")
    found = s3.get_object(Bucket="b", Key="a%b/ä", Range="bytes=2-4")
    assert (found["Body"].read(), found["ContentRange"]) == (b"234", "bytes 2-4/10")
    assert (found["Metadata"], found["ContentType"]) == ({"mex-to": "X"}, "text/csv")
    assert s3.head_object(Bucket="b", Key="a%b/ä")["ContentLength"] == 10
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="b", Prefix="a")["Contents"]] == ["a%b/ä"]
    assert code(s3.put_object, Key="a%b/ä", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
    s3.delete_object(Bucket="b", Key="a%b/ä")
    assert code(s3.get_object, Key="a%b/ä") == "NoSuchKey"


def test_the_benchs_s3_completes_uploads_of_the_parts_that_it_has(s3):
    upload = s3.create_multipart_upload(Bucket="b", Key="m", Metadata={"mex-to": "X"})["UploadId"]
    for number, body in ((2, b"two"), (1, b"one")):
        s3.upload_part(Bucket="b", Key="m", UploadId=upload, PartNumber=number, Body=body)
    found = s3.list_parts(Bucket="b", Key="m", UploadId=upload)["Parts"]
    parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in found]
    assert [(part["PartNumber"], part["Size"]) for part in found] == [(1, 3), (2, 3)]
    for wrong in (parts[::-1], [parts[0] | {"ETag": '"x"'}], [parts[0] | {"PartNumber": 3}]):
        assert (
            code(s3.complete_multipart_upload, Key="m", UploadId=upload, MultipartUpload={"Parts": wrong})
            == "InvalidPart"
        )
    s3.complete_multipart_upload(Bucket="b", Key="m", UploadId=upload, MultipartUpload={"Parts": parts})
    found = s3.get_object(Bucket="b", Key="m")
    assert (found["Body"].read(), found["Metadata"]) == (b"onetwo", {"mex-to": "X"})
    assert code(s3.list_parts, Key="m", UploadId=upload) == "NoSuchUpload"


def test_the_functions_are_told_all_that_they_read():
    sources = [REPOSITORY / f"crates/{package}/src/settings.rs" for package in Ours.memory]
    sources += [REPOSITORY / f"crates/mesh-pipeline/src/{name}.rs" for name in ("events", "settings")]
    calls = re.compile(r"reader\s*\.\w+(?:::<\w+>)?\(\s*\"([A-Z_0-9]+)\"")
    read = {name for source in sources for name in calls.findall(source.read_text().partition("#[cfg(test)]")[0])}
    assert {"BUCKET", "CHUNK_SIZE", "FETCH_BATCH_SIZE", "EVENT_SOURCE", "MESH_URL"} <= read
    assert read <= set(Ours.environment("https://mesh"))


def test_a_tiny_run_measures_every_case_of_every_subject(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--size", "tiny", "--results", tmp_path],
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "tests")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    peers = {report.OURS, report.PYTHON, report.AS_DEPLOYED}
    assert {case: set(found) - {report.FLOOR} for case, found in result["measured"].items()} == dict.fromkeys(
        report.SHOWN, peers
    )
    walled = {target.case for target in report.TARGETS if target.against == report.FLOOR}
    assert walled <= {case for case, found in result["measured"].items() if report.FLOOR in found}
    values = [
        value
        for case in result["measured"].values()
        for subject in peers
        for found in case[subject].values()
        for value in found
    ]
    assert min(values) > 0
    for target in report.TARGETS:
        assert target.text in done.stdout
    lines = {(line["content"], line["sent"], line["accepted"]): line["bytes"][0] for line in result["accept-encoding"]}
    assert len(lines) == 8
    # What is accepted decides what comes, however it was sent.
    for sent in ("plain", "gzip"):
        assert lines["text", sent, "gzip"] < lines["text", sent, "identity"] / 2
