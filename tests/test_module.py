"""What holds for every resource of the module, those that a test's settings leave out too."""

from pathlib import Path

import hcl2
import pytest

TERRAFORM = Path(__file__).resolve().parents[1] / "terraform"
# Types that take no tags, by the provider's schema: tests/e2e/test_applied.py compares.
WITHOUT_TAGS = {
    "aws_cloudwatch_event_target",
    "aws_cloudwatch_log_metric_filter",
    "aws_dynamodb_table_item",
    "aws_iam_role_policy",
    "aws_kms_alias",
    "aws_s3_bucket_lifecycle_configuration",
    "aws_s3_bucket_logging",
    "aws_s3_bucket_notification",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_policy",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
    "aws_sqs_queue_policy",
}


def resources():
    """Type, name and body of each resource, by file."""
    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True)
    for file in sorted([*TERRAFORM.glob("*.tf"), *TERRAFORM.glob("modules/*/*.tf")]):
        with file.open() as opened:
            for block in hcl2.load(opened, serialization_options=options).get("resource", []):
                for kind, named in block.items():
                    for name, body in named.items():
                        yield pytest.param(file, kind, body, id=f"{kind}.{name}")


def test_there_are_resources():
    assert len(list(resources())) > 70


@pytest.mark.parametrize(("file", "kind", "body"), list(resources()))
def test_it_has_tags_if_its_type_takes_them(file, kind, body):
    tags = "local.tags" if file.parent == TERRAFORM else "var.tags"
    given = body.get("tags", "")
    assert (given == f"${{{tags}}}" or given.startswith(f"${{merge({tags},")) == (kind not in WITHOUT_TAGS), given


@pytest.mark.parametrize(("file", "kind", "body"), [one for one in resources() if one.values[1] == "aws_iam_role"])
def test_a_role_has_the_boundary(file, kind, body):
    assert body.get("permissions_boundary") == "${local.permissions_boundary}"
