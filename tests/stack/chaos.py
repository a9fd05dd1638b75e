"""What the tests of faults share: time that passes without being waited for, and faults by chance."""

import contextlib

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

    def _age(self, table, key, attributes, unchanged_since=None):
        client = self.stack.client("dynamodb")
        name = f"{self.pipeline.name}-{table}"
        found = client.get_item(TableName=name, Key=key, ConsistentRead=True).get("Item", {})
        condition, values = "", {}
        if unchanged_since:
            condition, values = " AND updated_at = :since", {":since": {"S": unchanged_since}}
        for attribute in attributes & set(found):
            past = {"S": PAST} if "S" in found[attribute] else {"N": "0"}
            with contextlib.suppress(client.exceptions.ConditionalCheckFailedException):
                client.update_item(
                    TableName=name,
                    Key=key,
                    UpdateExpression="SET #a = :past",
                    ConditionExpression=f"attribute_exists(#a){condition}",
                    ExpressionAttributeNames={"#a": attribute},
                    ExpressionAttributeValues={":past": past} | values,
                )

    def lease(self, mailbox):
        """A lease that a dead worker left runs out."""
        self._age("leases", {"lease_id": {"S": mailbox}}, {"until"})

    def row(self, row, unchanged_since=None):
        """A row comes due, and an answer that has not come will not come."""
        self._age("messages", {"id": {"S": row}}, {"next_attempt_at", "answer_due_at"}, unchanged_since)

    def received(self, row):
        """What was done about a received message was done long ago; of an acknowledged one that would be a redelivery."""
        found = self.pipeline.row(row)
        if found and found["status"] != "acknowledged":
            attributes = {"next_attempt_at", "updated_at", "checked_at"}
            self._age("messages", {"id": {"S": row}}, attributes)

    def idle(self, row):
        """Whether the row's execution has ended or waits for a time; it was not stopped, so no worker is at work on it."""
        execution = row["execution"]
        described = self.stack.client("stepfunctions").describe_execution(executionArn=execution)
        return described["status"] != "RUNNING" or self.pipeline.history(execution)[-1]["type"] == "WaitStateEntered"

    def open_sends(self, rows):
        """Sends that nobody works on come due: the next run of tracking starts them again, or tells of them."""
        for row_id in rows:
            row = self.pipeline.row(row_id)
            untold = row and row["status"] == "sent" and not row.get("announced")
            if row and (untold or row["status"] in ("claimed", "posting", "sending")) and self.idle(row):
                self.row(row_id, row["updated_at"])
