"""The README's blocks of Terraform plan, and it asks for the tools that are needed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from stack import commands

ROOT = Path(__file__).resolve().parents[1]
# Where its blocks end: the consumer's own function, and a look at what was planned.
OTHERS = """
resource "aws_lambda_function" "results" {
  function_name = "results"
  role          = "arn:aws:iam::123456789012:role/results"
  filename      = "results.zip"
  handler       = "results.handle"
  runtime       = "python3.13"
}

output "mesh" {
  value = module.mesh
}
"""
TEST = """
mock_provider "aws" {
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

run "plan" {
  command = plan

  assert {
    condition     = output.mesh.mesh_s3_bucket_name == "live-pathology-mesh"
    error_message = "the module is there"
  }
}
"""


def test_its_blocks_of_terraform_plan(tmp_path):
    shutil.copytree(ROOT / "terraform", tmp_path / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    (tmp_path / "dist").mkdir()
    for function in ("poll", "fetch-chunk", "ack", "send", "track"):
        (tmp_path / f"dist/{function}.zip").touch()
    blocks = commands.blocks(ROOT / "README.md", "hcl")
    assert len(blocks) == 2
    written, sources = re.subn(r'source = "s3::[^"]+"', 'source = "../terraform"', "\n".join(blocks.values()))
    assert sources == 1
    root = tmp_path / "root"
    root.mkdir()
    (root / "main.tf").write_text(written + OTHERS)
    (root / "plan.tftest.hcl").write_text(TEST)
    env = {name: value for name, value in os.environ.items() if name != "TF_CLI_CONFIG_FILE" or Path(value).exists()}
    for command in ([ROOT / "tests/terraform-init.sh", root], ["terraform", f"-chdir={root}", "test", "-no-color"]):
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 0 failed" in done.stdout


def test_a_terraform_that_is_too_old_for_the_modules_tests_is_named(tmp_path):
    (asked,) = re.findall(r"\[Terraform\]\([^)]+\) ([\d.]+) or\nnewer", (ROOT / "README.md").read_text())
    old = f"1.{int(asked.removeprefix('1.')) - 1}.9"
    (tmp_path / "terraform").write_text(f"#!/bin/sh\necho Terraform v{old}\necho on linux_amd64\n")
    (tmp_path / "terraform").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run([ROOT / "tests/terraform-validate.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"Terraform {asked} or later" in done.stderr and old in done.stderr
