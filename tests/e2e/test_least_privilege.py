"""The roles' policies as applied; that each call is granted is the local AWS's doing, and that each grant is used is
compared at the end of a whole run (conftest.py)."""

import botocore
import pytest
from conftest import SECOND_REFUSED_KEY
from stack import least_privilege


@pytest.fixture(scope="module", params=["pipeline", "second", "readme"])
def policies(request):
    """The statements of an instance's roles, by role."""
    instance = request.getfixturevalue(request.param)
    found = least_privilege.roles(instance.stack, instance.name)
    assert len(found) >= 10
    return {role: [one for one in statements if one.allow] for role, statements in found.items()}


def allowed(policies):
    return [
        (role, action, resource)
        for role, statements in policies.items()
        for one in statements
        for action in one.actions
        for resource in one.resources
    ]


def test_no_action_has_a_wildcard(policies):
    assert [entry for entry in allowed(policies) if "*" in entry[1] or "?" in entry[1]] == []


def test_a_resource_has_a_name_where_aws_knows_names(policies):
    nameless = {action for _, action, resource in allowed(policies) if resource == "*" or resource.split(":")[5] == "*"}
    assert nameless <= least_privilege.NO_NARROWER


def test_an_instances_roles_reach_nothing_of_another(policies, request):
    """Names of the instance are in every resource but those of the account."""
    name = next(iter(policies)).partition("-mesh-")[0] + "-mesh"
    shared = ("event-bus/default",)
    strangers = [
        entry
        for entry in allowed(policies)
        if name not in entry[2]
        and entry[2] != "*"
        and not entry[2].endswith(shared)
        and not entry[2].startswith("arn:aws:kms:")
        and not entry[2].startswith("arn:aws:s3:::second-legacy-inbound")
    ]
    assert strangers == []


def test_the_key_is_used_through_aws_services_alone(policies):
    for role, statements in policies.items():
        for one in statements:
            if any(action.startswith("kms:") for action in one.actions):
                services = one.condition["StringEquals"]["kms:ViaService"]
                assert services, role
                assert all(action.startswith("kms:") for action in one.actions), one.actions


def test_every_function_and_machine_may_trace(second):
    """With `tracing_enabled`; X-Ray is called by AWS alone."""
    traces = {"xray:PutTelemetryRecords", "xray:PutTraceSegments"}
    samples = {"xray:GetSamplingRules", "xray:GetSamplingTargets"}
    found = {
        role.removeprefix(f"{second.name}-"): {action for one in statements for action in one.actions if action.startswith("xray:")}
        for role, statements in least_privilege.roles(second.stack, second.name).items()
    }
    functions = ("acknowledge-message", "fetch-message-chunk", "poll-mailbox", "send-message-chunk", "track-message")
    machines = ("get-messages", "send-message", "track-messages")
    expected = {f"{function}-role": traces for function in functions} | {machine: traces | samples for machine in machines}
    assert {role: actions for role, actions in found.items() if actions} == expected


def test_no_function_stores_where_an_object_would_be_sent(second):
    """Its role may write the rest of the bucket: with `use_legacy_inbound_location` a folder may be any."""
    s3 = second.stack.client("s3", f"LAMBDA-{second.name}-fetch-message-chunk")
    with pytest.raises(botocore.exceptions.ClientError, match="AccessDenied"):
        s3.put_object(Bucket=second.bucket, Key=SECOND_REFUSED_KEY, Body=b"received")
    s3.put_object(Bucket=second.bucket, Key="in/outbound.csv", Body=b"received")


def test_a_functions_secrets_are_those_that_it_reads(readme):
    """Receiving reads the polled mailboxes' passwords, sending any mailbox's."""
    found = {
        role.removeprefix(f"{readme.name}-"): {
            resource.partition("/mesh/")[2]
            for one in statements
            for resource in one.resources
            if one.allow and "ssm:GetParameters" in one.actions and resource.endswith("_PASSWORD")
        }
        for role, statements in least_privilege.roles(readme.stack, readme.name).items()
    }
    polled = {f"mailboxes/{mailbox}/MAILBOX_PASSWORD" for mailbox in ("X26ABC123", "X26ABC456")}
    for function in ("poll-mailbox", "fetch-message-chunk", "acknowledge-message"):
        assert found.pop(f"{function}-role") == polled
    for function in ("send-message-chunk", "track-message"):
        assert found.pop(f"{function}-role") == {"mailboxes/*/MAILBOX_PASSWORD"}
    assert set(map(frozenset, found.values())) == {frozenset()}
