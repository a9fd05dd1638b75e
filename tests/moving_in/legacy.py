"""A stand-in for the module that ours replaces: nothing but resources at its addresses and with its names.

An address, a name and what AWS ties to them decide whether a state can move in; code and policies don't. So the functions
are empty zips and the policies say next to nothing.
"""

import json
import zipfile

NAME = "${local.name}"
FUNCTIONS = ("check_send_parameters", "fetch_message_chunk", "poll_mailbox", "send_message_chunk")
MACHINES = ("get_messages", "send_message")
EVENTS = ("get_messages_event", "get_messages_handshake_event", "send_message_event")
# Of other services' permissions, AWS only checks that the document is one.
POLICY = json.dumps(
    {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "logs:PutLogEvents", "Resource": "*"}]}
)
VARIABLES = {
    "name_prefix": {"type": "string"},
    "account_id": {"type": "string"},
    "mesh_env": {"type": "string"},
    "subnet_ids": {"type": "set(string)"},
    "mailbox_ids": {"type": "set(string)"},
    "mailboxes": {
        "type": "list(object({ id = string, outbound_mappings = list(object({ dest_mailbox = string, workflow_id = string })) }))",
        "default": [],
    },
    "cloudtrail_enabled": {"type": "bool", "default": True},
    "get_messages_enabled": {"type": "bool", "default": True},
    "vpc_id": {"type": "string", "default": ""},
    "aws_s3_endpoint_prefix_list_id": {"type": "string", "default": ""},
    **{
        f"aws_{one}_sg_id": {"type": "string", "default": ""}
        for one in ("ssm_endpoint", "sfn_endpoint", "logs_endpoints", "kms_endpoints", "lambda_endpoints", "secrets_endpoints")
    },
}
# What the NHS publishes for the integration environment, which that module also takes for `local`.
MESH_CIDRS = [
    f"{address}/32"
    for address in ("3.11.177.31", "35.177.15.89", "3.11.199.83", "35.178.64.126", "18.132.113.121", "18.132.31.159")
]
# The security groups of the functions, and what the addresses of their rules begin with.
GROUPS = {
    "check_send_parameters": "check_send",
    "fetch_message_chunk": "fetch_message",
    "poll_mailbox": "poll_mailbox",
    "send_message_chunk": "send_message",
}
OUTPUTS = {
    "mesh_s3_bucket_name": "${aws_s3_bucket.mesh.bucket}",
    "mesh_kms_key_arn": "${aws_kms_key.mesh.arn}",
    "step_function_get_messages_arn": "${aws_sfn_state_machine.get_messages.arn}",
    "step_function_send_messages_arn": "${aws_sfn_state_machine.send_message.arn}",
    **{f"lambda_{one}_log_group_name": f"${{aws_cloudwatch_log_group.{one}.name}}" for one in FUNCTIONS},
}


def write(folder):
    """Writes the module into the folder."""
    (folder / "mailboxes").mkdir(parents=True)
    with zipfile.ZipFile(folder / "app.zip", "w") as packed:
        packed.writestr("app.py", "")
    (folder / "main.tf.json").write_text(json.dumps(module(), indent=2))
    (folder / "mailboxes" / "main.tf.json").write_text(json.dumps(mailboxes(), indent=2))


def module():
    resources = {}
    parts = (storage(), network(), *map(function, FUNCTIONS), *map(machine, MACHINES), rules(), *map(event_role, EVENTS), trail())
    for part in parts:
        for kind, named in part.items():
            resources.setdefault(kind, {}).update(named)
    return {
        "variable": VARIABLES,
        "locals": {
            "name": "${var.name_prefix}-mesh",
            "in_vpc": '${var.vpc_id != ""}',
            "endpoints": "${toset(local.in_vpc ? compact([%s]) : [])}" % ", ".join(f"var.{one}" for one in VARIABLES if one.endswith("_sg_id")),
        },
        "resource": resources,
        "module": {
            "mailboxes": {
                "source": "./mailboxes",
                "for_each": "${{ for mailbox in var.mailboxes : mailbox.id => mailbox }}",
                "name": NAME,
                "bucket": "${aws_s3_bucket.mesh.id}",
                "mailbox": "${each.value}",
            }
        },
        "output": {name: {"value": value} for name, value in OUTPUTS.items()},
    }


def dashed(name):
    return f"{NAME}-{name.replace('_', '-')}"


def log_group(address, name, days=365):
    key = "${aws_kms_key.mesh.arn}"
    return {address: {"name": name, "retention_in_days": days, "kms_key_id": key}}


def role(address, name, service, policy_name=None, policy_address=None):
    """A role with a managed policy of its own."""
    policy_name, policy_address = policy_name or name, policy_address or address
    trust = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": f"{service}.amazonaws.com"}}
    assume = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    attachment = {"role": f"${{aws_iam_role.{address}.name}}", "policy_arn": f"${{aws_iam_policy.{policy_address}.arn}}"}
    return {
        "aws_iam_role": {address: {"name": name, "description": name, "assume_role_policy": assume}},
        "aws_iam_policy": {policy_address: {"name": policy_name, "description": policy_name, "policy": POLICY}},
        "aws_iam_role_policy_attachment": {policy_address: attachment},
    }


def storage():
    mesh, logs = {"bucket": "${aws_s3_bucket.mesh.id}"}, {"bucket": "${aws_s3_bucket.s3logs.id}"}
    deny = {"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "s3:*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}}

    write_logs = {"Effect": "Allow", "Principal": {"Service": "logging.s3.amazonaws.com"}, "Action": "s3:PutObject"}

    def policy(bucket, *statements):
        resource = {"Resource": f"${{{bucket}.arn}}/*"}
        return json.dumps({"Version": "2012-10-17", "Statement": [{**one, **resource} for one in statements]})

    def expiry(id, status, days, **filter):
        return {"id": id, "status": status, "expiration": {"days": days}, "filter": filter}

    def encryption(algorithm, **key):
        return {"apply_server_side_encryption_by_default": {"sse_algorithm": algorithm, **key}}

    private = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    private = dict.fromkeys(private, True)
    return {
        "aws_s3_bucket": {"mesh": {"bucket": NAME}, "s3logs": {"bucket": f"{NAME}-s3logs"}},
        "aws_s3_bucket_versioning": {"mesh": {**mesh, "versioning_configuration": {"status": "Enabled"}}},
        "aws_s3_bucket_lifecycle_configuration": {
            "mesh": {**mesh, "rule": expiry("ExpireMeshObjects", "Disabled", 60)},
            "s3logs": {**logs, "rule": expiry("AWSLogs", "Enabled", 7, prefix="AWSLogs/")},
        },
        "aws_s3_bucket_server_side_encryption_configuration": {
            "mesh": {**mesh, "rule": encryption("aws:kms", kms_master_key_id="${aws_kms_key.mesh.key_id}")},
            "s3logs_encryption_configuration": {**logs, "rule": encryption("AES256")},
        },
        "aws_s3_bucket_logging": {
            "mesh": {
                **mesh,
                "target_bucket": "${aws_s3_bucket.s3logs.id}",
                "target_prefix": "bucket_logs/",
                "depends_on": ["aws_s3_bucket_policy.s3logs_policy"],
            }
        },
        "aws_s3_bucket_ownership_controls": {
            "mesh": {**mesh, "rule": {"object_ownership": "BucketOwnerEnforced"}},
            "s3logs_controls": {**logs, "rule": {"object_ownership": "BucketOwnerPreferred"}},
        },
        "aws_s3_bucket_acl": {
            "s3logs_acl": {
                **logs,
                "acl": "log-delivery-write",
                "depends_on": ["aws_s3_bucket_ownership_controls.s3logs_controls"],
            }
        },
        "aws_s3_bucket_public_access_block": {"mesh": {**mesh, **private}, "s3logs": {**logs, **private}},
        "aws_s3_bucket_policy": {
            "mesh_bucket_policy": {**mesh, "policy": policy("aws_s3_bucket.mesh", deny)},
            "s3logs_policy": {**logs, "policy": policy("aws_s3_bucket.s3logs", deny, write_logs)},
        },
        "aws_kms_key": {"mesh": {"description": NAME, "deletion_window_in_days": 14, "enable_key_rotation": True}},
        "aws_kms_alias": {"mesh": {"name": f"alias/{NAME}", "target_key_id": "${aws_kms_key.mesh.key_id}"}},
    }


def network():
    """A security group for each function, whose rules are resources of their own."""
    one = "${local.in_vpc ? 1 : 0}"
    groups, rules = {}, {}
    for group, begin in GROUPS.items():
        groups[group] = {"count": one, "name": dashed(group), "description": dashed(group), "vpc_id": "${var.vpc_id}"}
        https = {"type": "egress", "protocol": "tcp", "from_port": 443, "to_port": 443}
        https["security_group_id"] = f"${{aws_security_group.{group}[0].id}}"
        prefix_lists = ["${var.aws_s3_endpoint_prefix_list_id}"]
        rules |= {
            f"{begin}_mesh": {"count": one, **https, "cidr_blocks": MESH_CIDRS, "description": "to mesh"},
            f"{begin}_s3": {"count": one, **https, "prefix_list_ids": prefix_lists, "description": "to s3"},
            f"{begin}_endpoints": {
                "for_each": "${local.endpoints}",
                **https,
                "source_security_group_id": "${each.key}",
                "description": "to endpoint",
            },
        }
    return {"aws_security_group": groups, "aws_security_group_rule": rules}


def function(address):
    name = dashed(address)
    return {
        **role(address, f"{name}-role", "lambda", f"{name}-policy"),
        "aws_cloudwatch_log_group": log_group(address, f"/aws/lambda/{name}"),
        "aws_lambda_function": {
            address: {
                "function_name": name,
                "filename": "${path.module}/app.zip",
                "source_code_hash": '${filebase64sha256("${path.module}/app.zip")}',
                "handler": f"{address}.lambda_handler",
                "runtime": "python3.11",
                "timeout": 300,
                "publish": True,
                "role": f"${{aws_iam_role.{address}.arn}}",
                "layers": ["${aws_lambda_layer_version.mesh_aws_client_dependencies.arn}"],
                "environment": {"variables": {"ENVIRONMENT": NAME}},
                **({"ephemeral_storage": {"size": 10240}} if address == "fetch_message_chunk" else {}),
                "dynamic": {
                    "vpc_config": {
                        "for_each": f"${{aws_security_group.{address}}}",
                        "content": {"subnet_ids": "${var.subnet_ids}", "security_group_ids": ["${vpc_config.value.id}"]},
                    }
                },
                "depends_on": [f"aws_cloudwatch_log_group.{address}", f"aws_iam_role_policy_attachment.{address}"],
            }
        },
        "aws_lambda_layer_version": {
            "mesh_aws_client_dependencies": {
                "layer_name": f"{NAME}-dependencies",
                "filename": "${path.module}/app.zip",
                "compatible_runtimes": ["python3.11"],
            }
        },
    }


def machine(address):
    name = dashed(address)
    called = {"get_messages": ("poll_mailbox", "fetch_message_chunk"), "send_message": ("check_send_parameters", "send_message_chunk")}
    states = {
        function: {
            "Type": "Task",
            "Resource": f"${{aws_lambda_function.{function}.qualified_arn}}",
            **({"Next": following} if following else {"End": True}),
        }
        for function, following in zip(called[address], [*called[address][1:], None], strict=True)
    }
    return {
        **role(address, name, "states"),
        "aws_cloudwatch_log_group": log_group(address, f"/aws/states/{name}"),
        "aws_sfn_state_machine": {
            address: {
                "name": name,
                "role_arn": f"${{aws_iam_role.{address}.arn}}",
                "publish": True,
                "definition": json.dumps({"StartAt": called[address][0], "States": states}),
                "logging_configuration": {
                    "log_destination": f"${{aws_cloudwatch_log_group.{address}.arn}}:*",
                    "include_execution_data": True,
                    "level": "ALL",
                },
            }
        },
    }


def rules():
    pattern = {
        "source": ["aws.s3"],
        "detail": {
            "eventSource": ["s3.amazonaws.com"],
            "eventName": ["PutObject", "CompleteMultipartUpload"],
            "requestParameters": {"bucketName": [NAME], "key": [{"prefix": "outbound"}]},
        },
    }
    started = {"get_messages": "rate(1 minute)", "get_messages_handshake": "rate(1 hour)"}
    inputs = {"get_messages": "{ mailbox = each.key }", "get_messages_handshake": '{ mailbox = each.key, handshake = "true" }'}
    schedules = {
        one: {"name": dashed(one), "description": dashed(one), "schedule_expression": every} for one, every in started.items()
    }
    schedules["get_messages"]["state"] = '${var.get_messages_enabled ? "ENABLED" : "DISABLED"}'
    targets = {
        one: {
            "for_each": "${var.mailbox_ids}",
            "rule": f"${{aws_cloudwatch_event_rule.{one}.name}}",
            "target_id": "GetMessages${each.key}",
            "arn": "${aws_sfn_state_machine.get_messages.arn}",
            "role_arn": f"${{aws_iam_role.{one}_event.arn}}",
            "input": f"${{jsonencode({inputs[one]})}}",
        }
        for one in started
    }
    send = {
        "rule": "${aws_cloudwatch_event_rule.send_message_event.name}",
        "target_id": "SendMessage",
        "arn": "${aws_sfn_state_machine.send_message.arn}",
        "role_arn": "${aws_iam_role.send_message_event.arn}",
    }
    by_put = {"name": f"{NAME}-send-messages", "description": f"{NAME}-send-messages", "event_pattern": json.dumps(pattern)}
    return {
        "aws_cloudwatch_event_rule": {**schedules, "send_message_event": by_put},
        "aws_cloudwatch_event_target": {**targets, "send_message_event": send},
    }


def event_role(address):
    return role(address, dashed(address), "events")


def trail():
    """The trail; its log group and role carry the same name in every instance of an account."""
    role_address, policy_address = "mesh_cloudtrail_to_cloudwatch_role", "mesh_cloudtrail_cloudwatch_policy"
    return {
        **role(role_address, "cloudtrail-cloudwatch-mesh-role", "cloudtrail", "mesh-cloudtrail-cloudwatch-policy", policy_address),
        "aws_cloudwatch_log_group": log_group("mesh_cloudtrail", "/aws/cloudtrail/mesh-s3-logs", 30),
        "aws_cloudtrail": {
            "s3logs": {
                "count": "${var.cloudtrail_enabled ? 1 : 0}",
                "name": f"{NAME}-s3logs",
                "s3_bucket_name": "${aws_s3_bucket.s3logs.id}",
                "s3_key_prefix": "AWSLogs",
                "include_global_service_events": True,
                "is_multi_region_trail": True,
                "enable_log_file_validation": True,
                "kms_key_id": "${aws_kms_key.mesh.arn}",
                "cloud_watch_logs_group_arn": "${aws_cloudwatch_log_group.mesh_cloudtrail.arn}:*",
                "cloud_watch_logs_role_arn": f"${{aws_iam_role.{role_address}.arn}}",
                "event_selector": {
                    "read_write_type": "WriteOnly",
                    "include_management_events": False,
                    "data_resource": {"type": "AWS::S3::Object", "values": ["${aws_s3_bucket.mesh.arn}/"]},
                },
            }
        },
    }


def mailboxes():
    """Parameters for the first mapping of a mailbox alone, under the mailbox's own id as their key."""
    mapping = "/${var.name}/mesh/mapping/${var.bucket}/outbound_${each.key}_to_${each.value.dest_mailbox}"
    values = {"src_mailbox": "${each.key}", "dest_mailbox": "${each.value.dest_mailbox}", "workflow_id": "${each.value.workflow_id}"}
    inbound = {"bucket": "${var.bucket}", "folder": "inbound_${var.mailbox.id}"}
    parameters = {
        f"mailbox_inbound_{one}": {
            "name": f"/${{var.name}}/mesh/mailboxes/${{var.mailbox.id}}/INBOUND_{one.upper()}",
            "type": "String",
            "value": value,
        }
        for one, value in inbound.items()
    } | {
        f"outbound_mappings_{one}": {
            "for_each": "${{ for mapping in slice(var.mailbox.outbound_mappings, 0, min(1, length(var.mailbox.outbound_mappings))) : var.mailbox.id => mapping }}",
            "name": f"{mapping}/{one}",
            "type": "String",
            "value": value,
        }
        for one, value in values.items()
    }
    kind = "object({ id = string, outbound_mappings = list(object({ dest_mailbox = string, workflow_id = string })) })"
    variables = {"name": {"type": "string"}, "bucket": {"type": "string"}, "mailbox": {"type": kind}}
    return {"variable": variables, "resource": {"aws_ssm_parameter": parameters}}
