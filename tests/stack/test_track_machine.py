"""The state machine track-messages, rendered as Terraform does it, with a function that answers by script."""

import http.server
import json
import sys
import threading

import pytest
from asl.render import render, templates

# Answers with the line of the script that its tick's round says, and tells what it was asked: a function may write no file.
BOOTSTRAP = f"""#!{sys.executable}
import json, os, urllib.request as http
api = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime"
while True:
    with http.urlopen(api + "/invocation/next") as answer:
        event, id = json.loads(answer.read()), answer.headers["Lambda-Runtime-Aws-Request-Id"]
    http.urlopen(http.Request(os.environ["ASKED"], json.dumps(event).encode())).close()
    round = (event["request"].get("tick") or {{"rounds": 0}})["rounds"]
    result = json.loads(os.environ["SCRIPT"])[round]
    where = "error" if "errorType" in result else "response"
    http.urlopen(http.Request(api + f"/invocation/{{id}}/{{where}}", json.dumps(result).encode())).close()
"""


def answer(rounds, complete=False, failed=0, events=(), announced=()):
    tick = {"by": "2026-01-15T12:34:00.000Z", "due": "track", "rounds": rounds, "started": 0, "failed": failed}
    return {
        "statusCode": 200,
        "complete": complete,
        "tick": tick,
        "events": list(events),
        "announced": list(announced),
    }


def entry(source, number):
    return {
        "Source": source,
        "DetailType": "MESH message delivered",
        "Resources": ["arn:aws:s3:::live-mesh"],
        "Detail": {"row": f"out#{number}"},
    }


@pytest.fixture
def asked():
    """What the function tells, and where it does."""
    told = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ear) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield told, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def tick(aws, asked):
    """Runs the machine with the script's answers: its end, and what the function was asked."""
    told, url = asked

    def run(*script):
        environment = {"SCRIPT": json.dumps(script), "ASKED": url}
        function = aws.function(BOOTSTRAP, Environment={"Variables": environment})
        definition = json.loads(render(templates()["track-messages.asl.json"]))
        definition["States"]["Track"]["Parameters"]["FunctionName"] = function["FunctionArn"]
        for retrier in definition["States"]["Track"]["Retry"]:
            retrier["IntervalSeconds"] = 1
        found = aws.run(aws.machine(definition), {"detail-type": "Scheduled Event"})
        return found, told

    return run


def test_a_tick_with_nothing_due_is_one_call(aws, tick):
    found, asked = tick(answer(1, complete=True))
    assert found["status"] == "SUCCEEDED"
    assert [task["execution"] for task in asked] == [found["executionArn"]]
    entered = [event for event in aws.history(found["executionArn"]) if event["type"].endswith("StateEntered")]
    assert len(entered) == 3


def test_the_answer_is_the_next_request_until_the_tick_is_done(tick):
    answers = [answer(1), answer(2), answer(3, complete=True)]
    found, asked = tick(*answers)
    assert found["status"] == "SUCCEEDED"
    assert [task["request"] for task in asked[1:]] == answers[:2]


def test_events_are_put_before_the_rows_are_marked_and_the_tick_goes_on(aws, tick):
    queue, source = aws.queue(), "mesh-client-in-lists"
    aws.rule({"source": [source]}, {"Arn": queue.arn})
    lists = [[entry(source, n) for n in range(10)], [entry(source, 10)]]
    announced = [{"row": f"out#{n}", "status": "delivered"} for n in range(11)]
    found, asked = tick(answer(1, events=lists, announced=announced), answer(2, complete=True))
    assert found["status"] == "SUCCEEDED"
    told = [json.loads(message["Body"]) for message in queue.messages(11)]
    assert {event["detail"]["row"] for event in told} == {row["row"] for row in announced}
    assert asked[1]["request"]["announced"] == announced
    history = aws.history(found["executionArn"])
    entered = [event["stateEnteredEventDetails"]["name"] for event in history if "stateEnteredEventDetails" in event]
    assert entered[3:] == ["Announce some", "Announce some", "Track", "Anything to announce?", "Done"]


def test_rows_that_need_somebody_fail_the_execution_at_its_end(tick):
    found, asked = tick(answer(1, failed=2), answer(2, complete=True, failed=2))
    assert (found["status"], found["error"]) == ("FAILED", "RowsFailed")
    assert found["cause"].startswith("2 rows of sent messages")
    assert len(asked) == 2


def test_what_passes_by_itself_is_tried_again_and_the_rest_is_not(tick):
    found, asked = tick({"errorType": "AwsUnavailable", "errorMessage": "busy"})
    assert (found["status"], found["error"], len(asked)) == ("FAILED", "AwsUnavailable", 4)


def test_a_refusal_is_not_tried_again(tick):
    found, asked = tick({"errorType": "AwsRefused", "errorMessage": "no grant"})
    assert (found["status"], found["error"], len(asked)) == ("FAILED", "AwsRefused", 1)
