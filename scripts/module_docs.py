#!/usr/bin/env python3
"""Writes the tables of terraform/README.md from the module's variables and outputs.

    scripts/module_docs.py            rewrites what stands between the markers
    scripts/module_docs.py --check    fails if that would change something
"""

import argparse
import json
import re
import sys
from pathlib import Path

import hcl2

MODULE = Path(__file__).resolve().parent.parent / "terraform"
README = MODULE / "README.md"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, fail if something would change")
    check = parser.parse_args().check
    found = README.read_text()
    written = replaced(found, tables())
    if written == found:
        return
    if check:
        sys.exit("terraform/README.md's tables differ from variables and outputs: run `make docs`")
    README.write_text(written)


def tables():
    """The tables by the name in their markers."""
    variables, outputs = blocks("variable"), blocks("output")
    inputs = sorted(variables.items(), key=lambda one: ("default" in one[1], one[0]))
    return {
        "INPUTS": table(
            ("name", "type", "default", "description"),
            ((code(name), code(kind(one["type"])), default(one), text(one)) for name, one in inputs),
        ),
        "OUTPUTS": table(
            ("name", "description"), ((code(name), text(one)) for name, one in sorted(outputs.items()))
        ),
    }


def blocks(kind_of_block):
    """The module's blocks of a kind by label."""
    options = hcl2.SerializationOptions(with_comments=False, strip_string_quotes=True, preserve_heredocs=False)
    found = {}
    for file in sorted(MODULE.glob("*.tf")):
        with file.open() as opened:
            for block in hcl2.load(opened, serialization_options=options).get(kind_of_block, []):
                found |= block
    return found


def text(block):
    if not block.get("description"):
        sys.exit(f"a variable or output has no description: {block}")
    return " ".join(block["description"].split())


def kind(expression):
    """A type as it is written in Terraform; the parser marks all but simple types as an expression."""
    return re.sub(r"^\$\{(.*)\}$", r"\1", expression)


def default(block):
    return code(json.dumps(block["default"], ensure_ascii=False)) if "default" in block else "required"


def code(value):
    return f"`{value}`"


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def replaced(document, parts):
    """The document with each table between its markers."""
    for name, part in parts.items():
        begin, end = f"<!-- BEGIN {name} -->", f"<!-- END {name} -->"
        if document.count(begin) != 1 or document.count(end) != 1:
            sys.exit(f"terraform/README.md needs the lines {begin} and {end} once each")
        before, rest = document.split(begin)
        document = before + f"{begin}\n{part}\n{end}" + rest.split(end)[1]
    return document


if __name__ == "__main__":
    main()
