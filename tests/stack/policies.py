"""IAM's policy language, as far as this module's roles speak it."""

import functools
import json
import re

_CODE = {"ArnEquals": {"lambda:SourceFunctionArn"}}


class Statement:
    """A statement of a role's policy."""

    def __init__(self, statement):
        self.sid, self.condition = statement.get("Sid", ""), statement.get("Condition")
        self.allow = statement["Effect"] == "Allow"
        self.actions, self.resources = several(statement["Action"]), several(statement["Resource"])
        self._actions = [pattern(value, re.IGNORECASE) for value in self.actions]
        self._resources = [pattern(value) for value in self.resources]
        if not self.allow and self.condition and {name: set(values) for name, values in self.condition.items()} != _CODE:
            raise NotImplementedError(f"of a Deny's conditions, that it is a function's own code is understood: {statement}")

    def matches(self, action, resource):
        """Whether it is about this; an Allow with a condition is for what AWS does on the caller's behalf, which is no call here."""
        return (
            not (self.allow and self.condition)
            and any(one.fullmatch(action) for one in self._actions)
            and any(one.fullmatch(resource) for one in self._resources)
        )

def several(value):
    """IAM takes one string in the place of a list with one."""
    return value if isinstance(value, list) else [value]


@functools.lru_cache(4096)
def pattern(text, flags=0):
    """IAM's wildcards as a regular expression."""
    return re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", "."), flags | re.DOTALL)


def covers(action, resource, call):
    """Whether an action and a resource of a statement are those of a call."""
    called, needed = call
    return bool(pattern(action, re.IGNORECASE).fullmatch(called) and pattern(resource).fullmatch(needed))


@functools.lru_cache(256)
def statements(document):
    """The statements of a policy document, given as JSON text."""
    found = several(json.loads(document)["Statement"])
    strange = [one for one in found if not {"Action", "Resource"} <= set(one)]
    if strange:
        raise NotImplementedError(f"only statements with Action and Resource are understood: {strange}")
    return [Statement(one) for one in found]


def granted(documents, action, resource):
    """Whether the policy documents of a role allow this."""
    found = [one for document in documents for one in statements(document) if one.matches(action, resource)]
    return any(one.allow for one in found) and all(one.allow for one in found)
