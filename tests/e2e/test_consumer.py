"""The function of examples/consumer, applied beside the module, works on received messages."""

from stack.checks import Message
from stack.pipeline import until

FUNCTION = "/aws/lambda/e2e-consumer"


def test_the_examples_function_reads_each_message(pipeline, mailbox, other):
    message = Message(other, mailbox, b"for the consumer" * 100_000, headers={"mex-subject": "costs £5 + 100 %"})
    message_id = message.send(pipeline.stack)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"

    def lines():
        return pipeline.logs(FUNCTION, f"message {message_id}") or None

    (line,) = until(lines, "line of the function", lambda: pipeline.logs(FUNCTION))
    assert f"message {message_id} of workflow TEST_WORKFLOW: {len(message.body)} bytes" in line


def test_the_examples_rule_leaves_reports_and_other_instances_alone(pipeline, readme, mailbox, other):
    report = pipeline.stack.report(mailbox, code="14", description="Not collected", workflow_id="TEST_WORKFLOW")
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    elsewhere = Message(other, "X26ABC123", b"for another instance").send(pipeline.stack)
    assert readme.poll("X26ABC123")[-1]["status"] == "SUCCEEDED"
    # A later message of this instance is worked on: those two would have been before.
    later = Message(other, mailbox, b"later").send(pipeline.stack)
    assert pipeline.poll(mailbox)[-1]["status"] == "SUCCEEDED"
    until(lambda: pipeline.logs(FUNCTION, later) or None, "line of the function", lambda: pipeline.logs(FUNCTION))
    assert pipeline.logs(FUNCTION, report) == pipeline.logs(FUNCTION, elsewhere) == []
