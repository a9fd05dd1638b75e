"""Three instances that one apply has made: what AWS holds is what the configuration says, and says again."""

import json
import re

import pytest
from conftest import BOUNDARY, LEGACY_KEY, PREFIX, SECRETS_KEY, SHARE, THEIRS, document
from stack import least_privilege
from stack.policies import several
from stack.servers import StackError
from test_module import WITHOUT_TAGS


@pytest.fixture(params=["pipeline", "second", "readme"])
def instance(request):
    return request.getfixturevalue(request.param)


def test_a_second_plan_changes_nothing(applied):
    assert applied.terraform(PREFIX).changes() == []


def test_types_that_take_tags_are_known(applied):
    """By the state, which has `tags_all` where the provider's schema has it; what each resource has is looked at in test_module.py."""
    state = json.loads((applied.folder / f"terraform-{PREFIX}" / "terraform.tfstate").read_text())
    mine = [one for one in state["resources"] if one["mode"] == "managed" and one.get("module", "").startswith("module.")]
    taking = {one["type"]: "tags_all" in one["instances"][0]["attributes"] for one in mine if one["type"].startswith("aws_")}
    assert len(taking) > 20
    assert {kind for kind, takes in taking.items() if not takes} == WITHOUT_TAGS


def test_buckets_take_tls_alone_and_keep_versions(instance):
    s3 = instance.stack.client("s3")
    for bucket in (instance.bucket, f"{instance.bucket}-s3logs"):
        policy = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])
        arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        refused = [
            statement["Condition"]
            for statement in policy["Statement"]
            if statement["Effect"] == "Deny"
            and statement["Action"] == "s3:*"
            and statement["Principal"] in ("*", {"AWS": "*"})
            and sorted(statement["Resource"]) == arns
        ]
        assert {"Bool": {"aws:SecureTransport": "false"}} in refused
        assert {"NumericLessThan": {"s3:TlsVersion": "1.2"}} in refused
        # Nobody but AWS's own services is let in by a policy of the bucket.
        for statement in policy["Statement"]:
            assert statement["Effect"] == "Deny" or list(statement["Principal"]) == ["Service"], statement
        public = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert set(public.values()) == {True}
    assert s3.get_bucket_versioning(Bucket=instance.bucket)["Status"] == "Enabled"


def key_of(instance):
    return instance.stack.client("kms").describe_key(KeyId=f"alias/{instance.name}")["KeyMetadata"]["Arn"]


def test_the_callers_statements_stand_beside_the_modules(second):
    policies = {
        "bucket": second.stack.client("s3").get_bucket_policy(Bucket=second.bucket)["Policy"],
        "key": second.stack.client("kms").get_key_policy(KeyId=key_of(second), PolicyName="default")["Policy"],
    }
    found = {name: {one["Sid"]: one for one in json.loads(policy)["Statement"]} for name, policy in policies.items()}
    assert set(found["bucket"]) == {"TlsOnly", "Tls12AtLeast", "Theirs"}
    assert set(found["key"]) == {"AccountDecidesByIam", "LogGroups", "EventsToDeadLetterQueue", "Theirs"}
    assert {name: statements["Theirs"] for name, statements in found.items()} == THEIRS


def test_every_role_has_the_boundary(second):
    iam = second.stack.client("iam")
    names = list(least_privilege.roles(second.stack, second.name))
    assert len(names) >= 12
    found = [iam.get_role(RoleName=name)["Role"].get("PermissionsBoundary", {}).get("PermissionsBoundaryArn") for name in names]
    assert found == [BOUNDARY] * len(names)


def test_keys_of_the_callers_own_are_granted_by_the_services_that_use_them(second):
    functions = {
        role.removeprefix(f"{second.name}-"): {
            (key, service.partition(".")[0])
            for one in statements
            for key in one.resources
            if key in (SECRETS_KEY, LEGACY_KEY)
            for service in several(one.condition["StringEquals"]["kms:ViaService"])
        }
        for role, statements in least_privilege.roles(second.stack, second.name).items()
    }
    secrets = {(SECRETS_KEY, "ssm"), (SECRETS_KEY, "secretsmanager")}
    assert functions.pop("fetch-message-chunk-role") == secrets | {(LEGACY_KEY, "s3")}
    others = ("acknowledge-message", "poll-mailbox", "send-message-chunk", "track-message")
    assert [functions.pop(f"{function}-role") for function in others] == [secrets] * 4
    assert set(map(frozenset, functions.values())) == {frozenset()}


def test_sending_has_its_share_and_the_bucket_no_key_and_the_callers_notifications(second):
    client = second.stack.client
    share = client("lambda").get_function_concurrency(FunctionName=f"{second.name}-send-message-chunk")
    assert share["ReservedConcurrentExecutions"] == SHARE
    rules = client("s3").get_bucket_encryption(Bucket=second.bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [rule["BucketKeyEnabled"] for rule in rules] == [False]
    # That a second plan wants no other is seen above.
    kept = client("s3").get_bucket_notification_configuration(Bucket=second.bucket)
    assert [one["Id"] for one in kept["QueueConfigurations"]] == ["Theirs"]


def test_a_statement_with_a_sid_of_the_modules_is_refused(stack):
    """One would take the other's place, and nobody would be told."""
    terraform = stack.terraform("sids")
    example = {"name_prefix": "sids", "mesh_env": "local", "mesh_url": stack.mesh_url, "mailbox_ids": []}
    terraform.init(example, {"additional_kms_key_policy_json": document(THEIRS["key"] | {"Sid": "LogGroups"})})
    with pytest.raises(StackError, match=r"duplicate\W+Sid\W+LogGroups"):
        terraform.plan()


def test_everything_at_rest_has_the_instances_own_key(instance):
    client, key = instance.stack.client, key_of(instance)
    rules = client("s3").get_bucket_encryption(Bucket=instance.bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert [rule["ApplyServerSideEncryptionByDefault"] for rule in rules] == [
        {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": key}
    ]
    for table in ("messages", "leases"):
        described = client("dynamodb").describe_table(TableName=f"{instance.name}-{table}")["Table"]["SSEDescription"]
        assert (described["Status"], described["KMSMasterKeyArn"]) == ("ENABLED", key)
        backups = client("dynamodb").describe_continuous_backups(TableName=f"{instance.name}-{table}")
        recovery = backups["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
        assert recovery["PointInTimeRecoveryStatus"] == "ENABLED"
    groups = client("logs").get_paginator("describe_log_groups").paginate()
    mine = [group for page in groups for group in page["logGroups"] if instance.name in group["logGroupName"]]
    assert len(mine) >= 6
    assert {group.get("kmsKeyId") for group in mine} == {key}
    assert all(group.get("retentionInDays") for group in mine)
    sqs = client("sqs")
    url = sqs.get_queue_url(QueueName=f"{instance.name}-send-messages-dead-letter")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert queue["KmsMasterKeyId"] == key
    assert client("kms").get_key_rotation_status(KeyId=key)["KeyRotationEnabled"]


def test_closed_rows_expire_and_leases_do_not(instance):
    dynamodb = instance.stack.client("dynamodb")
    found = {
        table: dynamodb.describe_time_to_live(TableName=f"{instance.name}-{table}")["TimeToLiveDescription"]
        for table in ("messages", "leases")
    }
    assert found["messages"] == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}
    assert found["leases"]["TimeToLiveStatus"] == "DISABLED"


def test_every_resource_of_an_instance_has_its_tags(instance):
    client = instance.stack.client
    pages = client("stepfunctions").get_paginator("list_state_machines").paginate()
    machines = [m["stateMachineArn"] for page in pages for m in page["stateMachines"] if m["name"].startswith(instance.name)]
    assert {instance.machine("get-messages"), instance.machine("send-message")} <= set(machines)
    function = client("lambda").list_tags(Resource=f"arn:aws:lambda:eu-west-2:123456789012:function:{instance.name}-poll-mailbox")
    tagged = [
        client("s3").get_bucket_tagging(Bucket=instance.bucket)["TagSet"],
        client("kms").list_resource_tags(KeyId=key_of(instance))["Tags"],
        [{"Key": key, "Value": value} for key, value in function["Tags"].items()],
        *(client("stepfunctions").list_tags_for_resource(resourceArn=machine)["tags"] for machine in machines),
    ]
    # Key and value have another name in each service.
    assert [("Application", "mesh-aws") in [tuple(tag.values()) for tag in tags] for tags in tagged] == [True] * len(tagged)


def test_nothing_of_a_secret_is_in_the_state(applied):
    """Functions get names; a data source would keep the values in the state."""
    state = (applied.folder / f"terraform-{PREFIX}" / "terraform.tfstate").read_text()
    secrets = [applied.shared_key, applied.file("client.key").splitlines()[1]]
    assert all(secret and secret not in state for secret in secrets)
    assert "password" not in state.lower().replace("mailbox_password", "")
