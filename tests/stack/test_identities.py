"""Functions, state machines and rules may do what their roles' policies allow, and each kind of call is recorded."""

import json
import uuid

import botocore
import pytest
from stack import aws as server
from stack import policies

from .conftest import BOOTSTRAP

SSM = f"arn:aws:ssm:{server.REGION}:{server.ACCOUNT}:parameter"
DYNAMODB = f"arn:aws:dynamodb:{server.REGION}:{server.ACCOUNT}:table"


def caller(aws, *statements):
    """The access key of a function that may do what the statements allow."""
    return "LAMBDA-" + aws.function(Role=aws.role(*statements))["FunctionName"]


def recorded(aws, key):
    lines = [json.loads(line) for line in (aws.folder / "calls.jsonl").read_text().splitlines()]
    return [(call["action"], call["resource"], call["allowed"]) for call in lines if call["key"] == key]


def refused(call, **arguments):
    with pytest.raises(botocore.exceptions.ClientError) as failed:
        call(**arguments)
    return failed.value.response["Error"]["Code"]


def test_calls_are_recorded_once_with_caller_action_and_resource(aws):
    bucket = aws.bucket()
    key = caller(aws, {"Action": "*", "Resource": "*"})
    s3, arn = aws.client("s3", key), f"arn:aws:s3:::{bucket}"
    version = s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")["VersionId"]
    s3.put_object(Bucket=bucket, Key="a/b", Body=b"x")
    s3.head_object(Bucket=bucket, Key="a/b")
    s3.get_object(Bucket=bucket, Key="a/b", VersionId=version)
    assert refused(s3.head_object, Bucket=bucket, Key="never") == "404"
    upload = s3.create_multipart_upload(Bucket=bucket, Key="m")["UploadId"]
    s3.list_parts(Bucket=bucket, Key="m", UploadId=upload)
    s3.abort_multipart_upload(Bucket=bucket, Key="m", UploadId=upload)
    aws.client("ssm", key).get_parameters(Names=["/a/b", "c"])
    secret = aws.client("secretsmanager").create_secret(Name=f"/s/{uuid.uuid4()}", SecretString="x")
    aws.client("secretsmanager", key).get_secret_value(SecretId=secret["Name"])
    aws.client("events", key).put_events(Entries=[{"Source": "s", "DetailType": "t", "Detail": "{}"}])
    assert recorded(aws, key) == [
        ("s3:PutObject", f"{arn}/a/b", True),
        ("s3:GetObject", f"{arn}/a/b", True),
        ("s3:GetObjectVersion", f"{arn}/a/b", True),
        ("s3:GetObject", f"{arn}/never", True),
        ("s3:ListBucket", arn, True),
        ("s3:PutObject", f"{arn}/m", True),
        ("s3:ListMultipartUploadParts", f"{arn}/m", True),
        ("s3:AbortMultipartUpload", f"{arn}/m", True),
        ("ssm:GetParameters", f"{SSM}/a/b", True),
        ("ssm:GetParameters", f"{SSM}/c", True),
        ("secretsmanager:GetSecretValue", secret["ARN"], True),
        ("events:PutEvents", f"arn:aws:events:{server.REGION}:{server.ACCOUNT}:event-bus/default", True),
    ]


def test_a_table_and_its_index_are_different_resources(aws):
    name = f"t-{uuid.uuid4().hex[:8]}"
    aws.client("dynamodb").create_table(
        TableName=name,
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": a, "AttributeType": "S"} for a in ("id", "due")],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "due",
                "KeySchema": [{"AttributeName": "due", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
    )
    key = caller(aws, {"Action": ["dynamodb:Query", "dynamodb:BatchGetItem"], "Resource": f"{DYNAMODB}/{name}"})
    dynamodb = aws.client("dynamodb", key)
    dynamodb.batch_get_item(RequestItems={name: {"Keys": [{"id": {"S": "x"}}]}})
    query = {"KeyConditionExpression": "due = :d", "ExpressionAttributeValues": {":d": {"S": "x"}}}
    assert refused(dynamodb.query, TableName=name, IndexName="due", **query) == "AccessDeniedException"
    assert recorded(aws, key) == [
        ("dynamodb:BatchGetItem", f"{DYNAMODB}/{name}", True),
        ("dynamodb:Query", f"{DYNAMODB}/{name}/index/due", False),
    ]


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::{0}/a*"}, None),
        ({"Action": "s3:getobject", "Resource": ["arn:aws:s3:::{0}/?"]}, None),
        ({"Action": "s3:GetObjectVersion", "Resource": "arn:aws:s3:::{0}/*"}, "AccessDenied"),
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::{0}"}, "AccessDenied"),
        ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::{0}/b*"}, "AccessDenied"),
        (
            {"Action": "s3:GetObject", "Resource": "*", "Condition": {"StringEquals": {"s3:x": "y"}}},
            "AccessDenied",
        ),
    ],
)
def test_what_no_statement_allows_is_refused(aws, statement, code):
    bucket = aws.bucket()
    aws.client("s3").put_object(Bucket=bucket, Key="a", Body=b"x")
    client = aws.client("s3", caller(aws, json.loads(json.dumps(statement).replace("{0}", bucket))))
    if code:
        assert refused(client.get_object, Bucket=bucket, Key="a") == code
    else:
        assert client.get_object(Bucket=bucket, Key="a")["Body"].read() == b"x"


def test_a_missing_object_is_forbidden_to_who_may_not_list_the_bucket(aws):
    bucket = aws.bucket()
    client = aws.client("s3", caller(aws, {"Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/*"}))
    assert refused(client.head_object, Bucket=bucket, Key="never") == "403"


def test_a_function_calls_with_its_own_key(aws):
    request = (
        'http.Request(os.environ["AWS_ENDPOINT_URL"], b\'{"Names": ["/a"]}\', {"X-Amz-Target": "AmazonSSM.GetParameters", '
        '"Content-Type": "application/x-amz-json-1.1", "Authorization": "AWS4-HMAC-SHA256 Credential=" + '
        'os.environ["AWS_ACCESS_KEY_ID"] + "/20260101/eu-west-2/ssm/aws4_request, SignedHeaders=host, Signature=x"})'
    )
    calling = BOOTSTRAP.replace('case "big":', f'case "call":\n            result = http.urlopen({request}).status\n        case "big":')
    name = aws.function(calling)["FunctionName"]
    aws.client("lambda").invoke(FunctionName=name, Payload=b'{"do": "call"}')
    assert recorded(aws, f"LAMBDA-{name}") == [("ssm:GetParameters", f"{SSM}/a", True)]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_machine_invokes_the_version_that_its_role_allows(aws, allowed):
    function = aws.function()["FunctionArn"]
    role = aws.role({"Action": "lambda:InvokeFunction", "Resource": f"{function.removesuffix(':1')}:{'*' if allowed else '2'}"})
    state = {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": f"{function.removesuffix(':1')}:1", "Payload": {}},
        "End": True,
    }
    name = f"m-{uuid.uuid4().hex[:8]}"
    machine = aws.client("stepfunctions").create_state_machine(
        name=name, definition=json.dumps({"StartAt": "A", "States": {"A": state}}), roleArn=role
    )["stateMachineArn"]
    ended = aws.run(machine)
    assert ended["status"] == ("SUCCEEDED" if allowed else "FAILED")
    assert recorded(aws, f"STATES-{name}") == [("lambda:InvokeFunction", f"{function.removesuffix(':1')}:1", allowed)]


def test_a_rule_that_may_not_start_the_machine_has_a_dead_letter(aws):
    machine = aws.machine({"StartAt": "A", "States": {"A": {"Type": "Succeed"}}})
    role, queue = aws.role({"Action": "states:StartExecution", "Resource": f"{machine}x"}), aws.queue()
    source = uuid.uuid4().hex
    rule = aws.rule({"source": [source]}, {"Arn": machine, "RoleArn": role, "DeadLetterConfig": {"Arn": queue.arn}})
    aws.client("events").put_events(Entries=[{"Source": source, "DetailType": "t", "Detail": "{}"}])
    (message,) = queue.messages(1)
    assert message["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "AccessDeniedException"
    assert recorded(aws, f"EVENTS-{rule}") == [("states:StartExecution", machine, False)]


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Deny", "Action": "a", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "false"}}},
        {"Effect": "Allow", "NotAction": "a", "Resource": "*"},
        {"Effect": "Allow", "Action": "a", "NotResource": "*"},
    ],
)
def test_a_policy_that_is_not_understood_is_an_error(statement):
    with pytest.raises(NotImplementedError):
        policies.statements(json.dumps({"Statement": statement}))


def test_what_is_denied_is_not_granted_whatever_is_allowed():
    allow = {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:b/*"}
    deny = {"Effect": "Deny", "Action": "s3:PutObject", "Resource": "arn:b/out*"}
    documents = [json.dumps({"Statement": [deny]}), json.dumps({"Statement": [allow]})]
    assert policies.granted(documents, "s3:PutObject", "arn:b/in")
    assert not policies.granted(documents, "s3:PutObject", "arn:b/outbound/x")


def test_what_is_denied_to_a_functions_code_is_not_granted():
    own = {"ArnEquals": {"lambda:SourceFunctionArn": ["arn:f"]}}
    allow = {"Effect": "Allow", "Action": ["ec2:CreateNetworkInterface", "s3:GetObject"], "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "ec2:CreateNetworkInterface", "Resource": "*", "Condition": own}
    documents = [json.dumps({"Statement": [allow, deny]})]
    assert not policies.granted(documents, "ec2:CreateNetworkInterface", "r")
    assert policies.granted(documents, "s3:GetObject", "r")
