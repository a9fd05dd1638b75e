"""A state of the module that ours replaces moves in by a change of `source`, and back.

Its addresses and names are those of moving_in/legacy.py, the block is moving_in/main.tf.
"""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from moving_in import legacy
from stack import commands, least_privilege
from stack.checks import Message, received, sent
from stack.pipeline import ACCOUNT, Pipeline, until
from stack.servers import TESTS
from stack.terraform import MODULE

MAILBOX, LEGACY = "X26T990", "X26T991"
OTHERS = ("X26T992", "X26T993")
SANDBOX = "127.0.0.1/32"
TRAIL_LOG = "/aws/cloudtrail/mesh-s3-logs"
OLD_KEY = f"inbound/{MAILBOX}/20240101000000000000_000001.dat"
# What the replaced module has not.
OURS = ("acknowledge_message", "track_message", "track_messages")
# The groups that stay; that of the function that we have not goes.
GROUPS = [f"moving-mesh-{one}" for one in ("fetch-message-chunk", "poll-mailbox", "send-message-chunk")]
LOGS = ("/aws/lambda/moving-mesh-poll-mailbox", "/aws/lambda/moving-mesh-check-send-parameters", TRAIL_LOG)


class Team:
    """A team's root with its state, and what it has in AWS."""

    def __init__(self, stack):
        self.stack = stack
        self.pipeline = Pipeline(stack, "moving-mesh")
        self.terraform = stack.terraform("moving")

    def begin(self):
        """Applies the replaced module, and leaves an object and log lines of its time."""
        folder = self.terraform.folder
        folder.mkdir()
        shutil.copy(Path(legacy.__file__).with_name("main.tf"), folder)
        legacy.write(folder / "legacy")
        self.network = self.make_network()
        (folder / "terraform.tfvars.json").write_text(json.dumps({"network": self.network}))
        self.back()
        self.terraform.apply()
        self.pipeline.put_secrets([MAILBOX, LEGACY])
        self.pipeline.put(OLD_KEY, b"from before", {"mex-messageid": "20240101000000000000_000001"})
        for group in LOGS:
            logs, stream = self.stack.client("logs"), {"logGroupName": group, "logStreamName": "before"}
            logs.create_log_stream(**stream)
            logs.put_log_events(**stream, logEvents=[{"timestamp": int(time.time() * 1000), "message": "from before"}])

    def make_network(self):
        """A VPC, the prefix list of its way to S3, and the security groups of two endpoints."""
        ec2 = self.ec2
        vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
        blocks = ("10.1.1.0/24", "10.1.2.0/24")
        subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=block)["Subnet"]["SubnetId"] for block in blocks]
        groups = [ec2.create_security_group(GroupName=f"endpoint-{n}", Description="An endpoint", VpcId=vpc)["GroupId"] for n in (1, 2)]
        return {"vpc": vpc, "subnets": subnets, "s3": self.prefix_list("s3"), "endpoints": groups}

    @property
    def ec2(self):
        return self.stack.client("ec2")

    def prefix_list(self, service):
        lists = self.ec2.describe_managed_prefix_lists()["PrefixLists"]
        return next(one["PrefixListId"] for one in lists if one["PrefixListName"] == f"com.amazonaws.eu-west-2.{service}")

    def groups(self):
        """The ids of the functions' security groups by name."""
        filters = [{"Name": "vpc-id", "Values": [self.network["vpc"]]}, {"Name": "group-name", "Values": ["moving-mesh-*"]}]
        return {one["GroupName"]: one["GroupId"] for one in self.ec2.describe_security_groups(Filters=filters)["SecurityGroups"]}

    def reach(self, group):
        """What a group lets out: places and ports."""
        filters = [{"Name": "group-id", "Values": [group]}]
        return {
            (rule.get("CidrIpv4") or rule.get("PrefixListId") or rule["ReferencedGroupInfo"]["GroupId"], rule["ToPort"])
            for rule in self.ec2.describe_security_group_rules(Filters=filters)["SecurityGroupRules"]
            if rule["IsEgress"]
        }

    def swap(self, **block):
        """Changes `source`. URL and addresses are for the sandbox; docs/moving-in.md tells of the log group's name."""
        source = os.path.relpath(MODULE, self.terraform.folder)
        ours = {"mesh_url": self.stack.mesh_url, "mesh_cidr_blocks": [SANDBOX], "cloudtrail_log_group_name": TRAIL_LOG}
        self.terraform.override(**{"source": source} | ours | block)

    def back(self, **block):
        self.terraform.override(**block)

    def polls(self):
        """The states of the rule that polls and the one that shakes hands."""
        rules = self.stack.client("events").list_rules(NamePrefix="moving-mesh-get-messages")["Rules"]
        return {rule["Name"].removeprefix("moving-mesh-"): rule["State"] for rule in rules}

    def disks(self):
        """MiB of each function's /tmp, in the order of their names."""
        functions = self.stack.client("lambda").list_functions()["Functions"]
        found = {one["FunctionName"]: one["EphemeralStorage"]["Size"] for one in functions if one["FunctionName"].startswith("moving-mesh-")}
        return [size for _, size in sorted(found.items())]

    def key(self):
        aliases = self.stack.client("kms").list_aliases()["Aliases"]
        return next(one["TargetKeyId"] for one in aliases if one["AliasName"] == "alias/moving-mesh")

    def old_things(self):
        """What is there from before."""
        lines = {group: self.pipeline.logs(group, "from before") for group in LOGS}
        return self.pipeline.get(OLD_KEY)["Body"], self.key(), lines


@pytest.fixture(scope="module")
def team(stack):
    team = Team(stack)
    team.begin()
    team.before, team.groups_before, team.disks_before = team.old_things(), team.groups(), team.disks()
    # By docs/moving-in.md, steps 1 to 4.
    team.back(get_messages_enabled=False)
    team.terraform.apply()
    team.polls_before = team.polls()
    team.swap(get_messages_enabled=False)
    team.planned = team.terraform.plan()
    team.terraform.apply()
    team.polls_after = team.polls()
    team.pipeline.capture_events()
    return team


def test_nothing_polls_before_it_is_told_to(team):
    handshakes = {"get-messages-handshake": "ENABLED"}
    assert team.polls_before == team.polls_after == {"get-messages": "DISABLED"} | handshakes


def test_executions_that_still_run_are_shown(stack):
    """By docs/moving-in.md, step 2, on a machine of the name that only waits."""
    states, step = stack.client("stepfunctions"), commands.blocks(TESTS.parent / "docs/moving-in.md")["The cut-over", 0]
    definition = {"StartAt": "Wait", "States": {"Wait": {"Type": "Wait", "Seconds": 86400, "End": True}}}
    machine = states.create_state_machine(
        name="waiting-mesh-send-message", definition=json.dumps(definition), roleArn=f"arn:aws:iam::{ACCOUNT}:role/waiting"
    )["stateMachineArn"]
    execution = states.start_execution(stateMachineArn=machine)["executionArn"]
    assert commands.run(stack, step.replace("<name>", "waiting-mesh")) == execution
    states.stop_execution(executionArn=execution)
    assert commands.run(stack, step.replace("<name>", "waiting-mesh")) == ""
    states.delete_state_machine(stateMachineArn=machine)


def destroyed(planned):
    return {address.removeprefix("module.mesh.") for address, actions in planned.items() if "delete" in actions}


def test_the_plan_destroys_nothing_but_the_old_permissions_and_the_function_that_we_have_not(team):
    roles = ("get_messages", "send_message", *legacy.EVENTS, *legacy.FUNCTIONS, "mesh_cloudtrail_cloudwatch_policy")
    assert destroyed(team.planned) == {
        *(f"{kind}.{role}" for kind in ("aws_iam_policy", "aws_iam_role_policy_attachment") for role in roles),
        "aws_iam_role.check_send_parameters",
        # Its name is every instance's: ours has one of its own.
        "aws_iam_role.mesh_cloudtrail_to_cloudwatch_role[0]",
        "aws_lambda_function.check_send_parameters",
        "aws_lambda_layer_version.mesh_aws_client_dependencies",
        # The provider leaves the bucket's list as it is.
        "aws_s3_bucket_acl.s3logs_acl",
        "aws_security_group.check_send_parameters[0]",
        *(f"aws_security_group_rule.check_send_{one}[0]" for one in ("mesh", "s3")),
        *(f'aws_security_group_rule.check_send_endpoints["{one}"]' for one in team.network["endpoints"]),
    }


def test_bucket_key_and_log_groups_are_changed_in_place(team):
    kept = ("aws_s3_bucket.", "aws_kms_", "aws_cloudwatch_log_group.", "aws_lambda_function.", "aws_sfn_", "aws_cloudtrail.", "aws_security_group.")
    actions = {address.removeprefix("module.mesh."): actions for address, actions in team.planned.items()}
    found = {address: actions[address] for address in actions if address.startswith(kept)}
    changed = {
        address: one
        for address, one in found.items()
        if address.partition(".")[2].partition("[")[0] not in {*OURS, "check_send_parameters"}
    }
    assert len(changed) > 15
    assert {tuple(one) for one in changed.values()} <= {("update",), ("no-op",)}
    assert found["aws_cloudwatch_log_group.check_send_parameters"] == ["update"]


def test_the_functions_security_groups_are_kept_with_the_rules_that_are_ours(team):
    """In the replaced module the rules are resources of their own. Destroyed, they would take ours with them, or the other way
    round: Terraform keeps no order between the two."""
    forgotten = [address for address, actions in team.planned.items() if actions == ["forget"]]
    assert len(forgotten) == 3 * (2 + len(team.network["endpoints"]))
    groups = team.groups()
    assert groups == {name: team.groups_before[name] for name in GROUPS}
    port = int(team.stack.mesh_url.rpartition(":")[2])
    dynamodb, (ssm, sfn) = team.prefix_list("dynamodb"), team.network["endpoints"]
    polling = {(SANDBOX, port), (dynamodb, 443), (ssm, 443), (sfn, 443)}
    moving = polling | {(team.network["s3"], 443)}
    fetch, poll, send = GROUPS
    assert {name: team.reach(groups[name]) for name in GROUPS} == {poll: polling, fetch: moving, send: moving}
    function = team.stack.client("lambda").get_function_configuration(FunctionName=poll)
    assert function["VpcConfig"]["SecurityGroupIds"] == [groups[poll]]
    assert sorted(function["VpcConfig"]["SubnetIds"]) == sorted(team.network["subnets"])


def test_no_function_pays_for_a_disk(team):
    assert team.disks_before == [512, 10240, 512, 512]
    assert team.disks() == [512] * 5


def test_a_second_plan_changes_nothing(team):
    assert team.terraform.changes() == []


def test_objects_key_and_logs_from_before_are_there(team):
    assert all(team.before[2].values())
    assert team.old_things() == team.before


def test_no_permission_of_the_replaced_module_is_left(team):
    iam = team.stack.client("iam")
    named = [one["PolicyName"] for page in iam.get_paginator("list_policies").paginate(Scope="Local") for one in page["Policies"]]
    assert [name for name in named if name.startswith(("moving-mesh", "mesh-cloudtrail"))] == []


def test_in_a_vpc_no_grant_is_wider(team):
    roles = {
        role.removeprefix(f"{team.pipeline.name}-"): {
            (action, resource) for one in statements for action in one.actions for resource in one.resources if one.allow
        }
        for role, statements in least_privilege.roles(team.stack, team.pipeline.name).items()
    }
    network = {role: {action for action, _ in grants if action.startswith("ec2:")} for role, grants in roles.items()}
    functions = ("acknowledge-message", "fetch-message-chunk", "poll-mailbox", "send-message-chunk", "track-message")
    assert {role: actions for role, actions in network.items() if actions} == {
        f"{function}-role": set(least_privilege.OF_A_VPC) for function in functions
    }
    grants = set().union(*roles.values())
    assert [action for action, _ in grants if "*" in action] == []
    assert {action for action, resource in grants if resource == "*"} <= least_privilege.NO_NARROWER


def test_a_message_is_received(team):
    message = Message(OTHERS[0], MAILBOX, b"after the move")
    message_id = message.send(team.stack)
    assert team.pipeline.poll(MAILBOX)[-1]["status"] == "SUCCEEDED"
    assert received(team.pipeline, message_id, message) == []


def test_an_object_is_sent(team):
    message = Message(MAILBOX, OTHERS[0], b"after the move")
    version = team.pipeline.put("outbound/after.txt", message.body, message.metadata, ContentType=message.content_type)
    team.pipeline.wait_sent("outbound/after.txt", version)
    assert sent(team.pipeline, "outbound/after.txt", version, message) == []


def test_sending_is_switched_off_and_on(team):
    """By docs/runbook.md: here, because nobody else sends from this instance."""
    runbook = commands.blocks(TESTS.parent / "docs/runbook.md")

    def run(number):
        return commands.run(team.stack, runbook["Switching sending off and on", number], NAME="moving-mesh")

    run(0)
    message = Message(MAILBOX, OTHERS[0], b"waits for the switch")
    version = team.pipeline.put("outbound/waits.txt", message.body, message.metadata)
    row = team.pipeline.wait_sent("outbound/waits.txt", version, "claimed")
    assert team.pipeline.wait(row["execution"])["status"] == "SUCCEEDED"
    # The trail's event of the same object looks at the switch once more; meanwhile the row is that execution's.
    until(lambda: run(1) == row["id"] or None, "waiting row", lambda: team.pipeline.row(row["id"]))
    run(2)
    assert team.pipeline.track()["status"] == "SUCCEEDED"
    team.pipeline.wait_sent("outbound/waits.txt", version)
    assert run(1) == ""


@pytest.mark.parametrize(("other", "workflow"), [(OTHERS[0], "FIRST"), (OTHERS[1], "SECOND")])
def test_a_mapping_still_sends(team, other, workflow):
    """The second one had no parameters in the replaced module."""
    key = f"outbound_{LEGACY}_to_{other}/after.txt"
    message = Message(LEGACY, other, b"after the move", workflow)
    version = team.pipeline.put(key, message.body, ContentType=message.content_type)
    team.pipeline.wait_sent(key, version)
    assert sent(team.pipeline, key, version, message) == []


def test_polls_are_switched_on_at_the_end(team):
    team.swap(get_messages_enabled=True)
    assert set(team.terraform.changes()) == {
        "module.mesh.aws_cloudwatch_event_rule.get_messages[0]: update",
        'module.mesh.aws_cloudwatch_metric_alarm.this["get-messages-stopped"]: create',
        "output mesh: update",
    }
    team.terraform.apply()
    assert set(team.polls().values()) == {"ENABLED"}


@pytest.mark.nightly
def test_the_way_back(team):
    """By docs/moving-in.md: the rows stay in AWS."""
    team.swap(get_messages_enabled=False)
    team.terraform.apply()
    waiting, state, groups = (commands.blocks(TESTS.parent / "docs/moving-in.md")["Back", number] for number in range(3))
    # As a send that waits for its next attempt.
    item = {"id": "out#waits", "due": "send", "next_attempt_at": "2036-01-15T12:00:00.000Z"}
    table = {"TableName": "moving-mesh-messages"}
    team.stack.client("dynamodb").put_item(**table, Item={name: {"S": value} for name, value in item.items()})
    assert commands.run(team.stack, waiting, NAME="moving-mesh").split() == ["send", "out#waits", "0"]
    team.stack.client("dynamodb").delete_item(**table, Key={"id": {"S": "out#waits"}})
    assert commands.run(team.stack, waiting, NAME="moving-mesh") == "0"
    commands.run(team.stack, state, cwd=team.terraform.folder)
    commands.run(team.stack, groups, NAME="moving-mesh")
    assert [team.reach(group) for group in team.groups().values()] == [set()] * 3
    team.back(get_messages_enabled=False)
    kept = ("aws_s3_bucket.", "aws_kms_", "aws_cloudwatch_log_group.")
    gone = {address for address in destroyed(team.terraform.plan()) if address.startswith(kept)}
    assert gone <= {f"aws_cloudwatch_log_group.{one}" for one in OURS}
    team.terraform.apply()
    assert team.terraform.changes() == []
    assert team.old_things() == team.before
    assert {name: team.groups()[name] for name in GROUPS} == {name: team.groups_before[name] for name in GROUPS}
    reach = {("pl" if place.startswith("pl-") else place, port) for place, port in team.reach(team.groups()[GROUPS[0]])}
    assert reach == {(place, 443) for place in (*legacy.MESH_CIDRS, *team.network["endpoints"], "pl")}
    team.back()
    team.terraform.apply()
    assert set(team.polls().values()) == {"ENABLED"}
