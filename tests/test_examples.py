"""The examples are what a user may copy."""

import re
import zipfile
from pathlib import Path

import pytest

TERRAFORM = Path(__file__).parent.parent / "terraform"
EXAMPLES = sorted((TERRAFORM / "examples").iterdir())


def test_the_consumers_zip_holds_its_handler():
    folder = TERRAFORM / "examples" / "consumer"
    with zipfile.ZipFile(folder / "handler.zip") as packed:
        assert packed.namelist() == ["handler.py"]
        assert packed.read("handler.py") == (folder / "handler.py").read_bytes(), "run: zip handler.zip handler.py"


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_a_new_user_pays_for_no_trail(example):
    """Its default is for those who come from the NHS's module."""
    assert re.search(r"^ +cloudtrail_enabled += false\b", (example / "main.tf").read_text(), re.MULTILINE)


def test_each_example_is_planned_and_in_the_readme():
    tests, readme = (TERRAFORM / "tests/examples.tftest.hcl").read_text(), (TERRAFORM / "README.md").read_text()
    for example in EXAMPLES:
        assert f'source = "./examples/{example.name}"' in tests
        assert f"(examples/{example.name})" in readme
