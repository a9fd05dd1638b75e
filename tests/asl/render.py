"""The state machine definitions as Terraform renders them, with sample values.

    python3 tests/asl/render.py DIR    writes them to DIR
"""

import re
import sys
from pathlib import Path

DEFINITIONS = Path(__file__).resolve().parents[2] / "terraform" / "state-machines"


def _function(name):
    return f"arn:aws:lambda:eu-west-2:123456789012:function:demo-mesh-{name}:1"


PLACEHOLDERS = {
    "partition": "aws",
    "poll_mailbox": _function("poll-mailbox"),
    "fetch_message_chunk": _function("fetch-message-chunk"),
    "acknowledge_message": _function("acknowledge-message"),
    "send_message_chunk": _function("send-message-chunk"),
    "track_message": _function("track-message"),
    "dead_letter_queue": "https://sqs.eu-west-2.amazonaws.com/123456789012/demo-mesh-send-messages-dead-letter",
    "leases_table": "demo-mesh-leases",
    "messages_table": "demo-mesh-messages",
    "max_concurrency": "4",
}


def templates():
    """The templates by file name."""
    return {path.name: path.read_text() for path in sorted(DEFINITIONS.glob("*.asl.json"))}


def render(template):
    """A template with every placeholder replaced; one that is not known is an error."""
    text = re.sub(r"\$\{([^}]*)\}", lambda match: PLACEHOLDERS[match[1]], template)
    return re.sub(r'("MaxConcurrency": )"(\d+)"', r"\1\2", text)


if __name__ == "__main__":
    for name, template in templates().items():
        (Path(sys.argv[1]) / name).write_text(render(template))
