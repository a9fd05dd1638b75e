"""What each crate may link: a function's dependencies are its capabilities, and there is one TLS stack."""

import functools
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

FUNCTIONS_WITHOUT_S3 = ["poll", "ack", "track"]
FUNCTIONS_WITH_S3 = ["fetch-chunk", "send"]
TLS_PROVIDERS = {"ring", "aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "boring", "graviola", "rustls-openssl"}
TLS_STACKS = {"rustls", "native-tls", "openssl", "s2n-tls", "boring"}


@functools.cache
def linked(package):
    """Name and version of every crate in the binary, with the features that this package alone asks for."""
    tree = ["cargo", "tree", "--locked", "--package", package, "--edges", "normal", "--prefix", "none"]
    done = subprocess.run(
        [*tree, "--target", "x86_64-unknown-linux-gnu"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    return sorted(set(re.findall(r"^(\S+) v(\S+)", done.stdout, re.M)))


def names(package):
    return {name for name, _ in linked(package)}


def test_the_functions_are_those_that_are_built():
    manifests = (REPOSITORY / "crates").glob("*/Cargo.toml")
    functions = {file.parent.name for file in manifests if (file.parent / "src/main.rs").exists()}
    assert functions == {*FUNCTIONS_WITHOUT_S3, *FUNCTIONS_WITH_S3}


@pytest.mark.parametrize("function", FUNCTIONS_WITHOUT_S3)
def test_a_function_that_never_touches_the_bucket_does_not_link_s3(function):
    assert "aws-sdk-dynamodb" in names(function)
    assert "aws-sdk-s3" not in names(function)


@pytest.mark.parametrize("function", FUNCTIONS_WITH_S3)
def test_a_function_that_moves_bodies_links_s3(function):
    assert "aws-sdk-s3" in names(function)


def test_the_mesh_client_knows_no_aws():
    assert "reqwest" in names("mesh-client")
    assert [name for name in names("mesh-client") if name.startswith(("aws", "lambda"))] == []


@pytest.mark.parametrize("package", [*FUNCTIONS_WITHOUT_S3, *FUNCTIONS_WITH_S3, "mesh-client"])
def test_there_is_one_tls_stack_with_one_provider(package):
    found = [name for name, _ in linked(package)]
    # A second version counts as well.
    assert [name for name in found if name in TLS_STACKS] == ["rustls"]
    assert [name for name in found if name in TLS_PROVIDERS] == ["ring"]
