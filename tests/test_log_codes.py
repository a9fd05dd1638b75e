"""The list of log codes in docs/logs.md is the one in the code, and holds what the NHS module's users search for."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
# The crates by their functions' names in AWS; what all functions share is "all".
FUNCTIONS = {
    "ack": "acknowledge-message",
    "fetch-chunk": "fetch-message-chunk",
    "mesh-pipeline": "all",
    "poll": "poll-mailbox",
    "send": "send-message-chunk",
    "track": "track-message",
}
# What the module that this one replaces logs under each code, so that alarms and saved searches go on working.
REPLACED = {
    "LAMBDA0001": set(),
    "LAMBDA0002": set(),
    "LAMBDA0003": {"duration"},
    "LAMBDA9999": {"error"},
    "MESHMBOX0004": {"mailbox", "http_status"},
    "MESHMBOX0005": {"mailbox", "message_count"},
    "MESHMBOX0006": {"message_id"},
    "MESHPOLL0001": {"mailbox", "message_count"},
    "MESHPOLL0002": {"mailbox"},
    "MESHSEND0001": {"bucket", "file"},
    "MESHSEND0003": set(),
    "MESHSEND0004": {"file", "file_size", "chunks", "dest_mailbox", "src_mailbox", "workflow_id"},
    "MESHSEND0005": set(),
    "MESHSEND0007": {"chunk_num", "max_chunk", "message_id", "http_status"},
    "MESHSEND0008": {"message_id"},
    "MESHFETCH0001": {"message_id"},
    "MESHFETCH0001c": {"s3_bucket", "s3_key"},
    "MESHFETCH0002": {"message_id"},
    "MESHFETCH0004": {"message_id"},
    "MESHFETCH0005a": {"message_id"},
    "MESHFETCH0006": {"message_id"},
    "MESHFETCH0007": {"message_id"},
    "MESHFETCH0010": {"message_id"},
    "MESHFETCH0011": {"message_id"},
    "MESHFETCH0012": {"message_id"},
    "MESHFETCH0013": {"message_id"},
}


def arguments(text):
    """The arguments of a macro call, from what follows its opening parenthesis."""
    found, depth, word = [], 0, ""
    for token in re.finditer(r'"(?:\\.|[^"\\])*"|.', text, re.DOTALL):
        part = token[0]
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(part, 0)
        if depth < 0:
            return [word.strip() for word in [*found, word] if word.strip()]
        if part == "," and depth == 0:
            found.append(word)
            word = ""
        else:
            word += part
    raise ValueError(text[:80])


def in_the_code():
    """Functions and fields by code."""
    codes = {}
    for file in sorted((REPOSITORY / "crates").glob("*/src/**/*.rs")):
        if "tests" in file.with_suffix("").parts:
            continue
        text = re.split(r"^#\[cfg\(test\)\]\n(?:pub\(crate\) )?mod \w+ \{", file.read_text(), maxsplit=1, flags=re.MULTILINE)[0]
        crate = file.relative_to(REPOSITORY / "crates").parts[0]
        for call in re.finditer(r"\b(?:trace|debug|info|warn|error)!\(", text):
            fields = {}
            for argument in arguments(text[call.end() :]):
                name, _, value = argument.partition("=")
                if not argument.startswith('"'):
                    fields[name.strip(" %?\n")] = value.strip()
            if code := fields.pop("logReference", None):
                functions, names = codes.setdefault(code.strip('"'), (set(), set()))
                functions.add(FUNCTIONS[crate])
                names.update(fields)
        assert text.count("logReference") == sum(text.count(f'logReference = "{code}"') for code in codes), file
    return codes


def in_the_document():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]*) \| [^|]* \|([^|]*)\|$", (REPOSITORY / "docs/logs.md").read_text(), re.MULTILINE)
    found = {code: (set(functions.split(", ")), set(re.findall(r"`(\w+)`", fields))) for code, functions, fields in rows}
    assert len(found) == len(rows), "a code stands twice"
    return found


def test_the_documented_codes_functions_and_fields_are_those_of_the_code():
    assert in_the_document() == in_the_code()


@pytest.mark.parametrize("code", REPLACED)
def test_a_code_that_users_search_for_is_logged_with_its_fields(code):
    assert code in in_the_code()
    _, fields = in_the_code()[code]
    assert REPLACED[code] <= fields
