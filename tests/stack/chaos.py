"""What the tests of faults share: time that passes without being waited for, and faults by chance."""

import datetime
import json

PAST = "2020-01-01T00:00:00Z"
# (kind, its other fields) with equal chances.
KINDS = (
    ("kill-before", {}),
    ("kill-after", {}),
    ("reset-before", {}),
    ("reset-after", {}),
    ("status", {"status": 503, "body": "<html>Service Unavailable</html>"}),
    ("status", {"status": 500, "late": True}),
    ("half", {}),
    ("delay", {"seconds": 0.5}),
)


def any_fault(stack, cell, share, seed):
    """Something of any kind goes wrong with this share of the cell's calls."""
    for kind, fields in KINDS:
        stack.fault(cell, kind, probability=share / len(KINDS), seed=seed, **fields)


class Ageing:
    """Time passes: what waits for a time has it behind it. Only for rows that nobody works on."""

    def __init__(self, pipeline):
        self.pipeline, self.stack = pipeline, pipeline.stack

    def _age(self, table, key, attributes):
        client = self.stack.client("dynamodb")
        name = f"{self.pipeline.name}-{table}"
        found = client.get_item(TableName=name, Key=key, ConsistentRead=True).get("Item", {})
        for attribute in attributes & set(found):
            past = {"S": PAST} if "S" in found[attribute] else {"N": "0"}
            client.update_item(
                TableName=name,
                Key=key,
                UpdateExpression="SET #a = :past",
                ConditionExpression="attribute_exists(#a)",
                ExpressionAttributeNames={"#a": attribute},
                ExpressionAttributeValues={":past": past},
            )

    def lease(self, mailbox):
        """A lease that a dead worker left runs out."""
        self._age("leases", {"lease_id": {"S": mailbox}}, {"until"})

    def row(self, row):
        """A row comes due, and an answer that has not come will not come."""
        self._age("messages", {"id": {"S": row}}, {"next_attempt_at", "answer_due_at"})

    def long_ago(self, row):
        """What was done about the message was done long ago."""
        self._age("messages", {"id": {"S": row}}, {"next_attempt_at", "answer_due_at", "updated_at", "checked_at"})

    def quiet(self, row, seconds=5):
        """Whether nobody has changed the row for a while."""
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=seconds)
        return row["updated_at"] < then.isoformat()

    def sweep(self, rows):
        """Sends that nobody works on any more are started again."""
        for row_id in rows:
            row = self.pipeline.row(row_id)
            if row and row["status"] in ("claimed", "posting", "sending") and self.quiet(row):
                self.row(row_id)
                self.stack.client("stepfunctions").start_execution(
                    stateMachineArn=self.pipeline.machine("send-message"), input=json.dumps({"row": row_id})
                )
