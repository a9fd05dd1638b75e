#!/usr/bin/env python3
"""Makes dist/release/mesh-aws-<version>.tar.gz: the module with its zips, for machines without Rust and Python.

Nothing in the archive tells when or where it was made, so the same commit and toolchain give the same bytes.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

import build
from build import ROOT

# Beside the zips; only what git knows, so that no state or variable file of this machine gets in.
CONTENT = ("terraform", "docs", "README.md", "LICENSE", "CHANGELOG.md", "bench/README.md", "bench/results")
# 1980-01-01, the least that a zip can hold.
TIME = 315532800


def main():
    version = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    if changed := build.output("git", "status", "--porcelain"):
        sys.exit(f"a release is made from a commit, but these files differ from it; commit them first:\n{changed}")
    check_dependencies()
    advisories = check_advisories()
    print(advisories, flush=True)
    build.main()
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        collect(stage)
        (stage / "sbom").mkdir()
        (stage / "sbom/advisories.txt").write_text(advisories + "\n")
        for arch in build.architectures():
            boms(arch, stage / "sbom" / arch)
        archive = pack(stage, ROOT / "dist/release" / f"mesh-aws-{version}.tar.gz")
    print(f"{archive.relative_to(ROOT)}: {archive.stat().st_size / 1e6:.1f} MB\n{advisories}")


def check_dependencies():
    """Ends the release if a dependency is not what deny.toml allows."""
    if deny("check", "--deny", "warnings", "licenses", "bans", "sources").returncode:
        sys.exit("a dependency is not what deny.toml allows")


def check_advisories():
    """What became of the check for known vulnerabilities, in a sentence; ends the release if one is found."""
    if deny("fetch", "db").returncode:
        told = "advisories: NOT checked: the advisory database could not be fetched"
        if os.environ.get("ADVISORIES") != "skip":
            sys.exit(f"{told}. Make the release where it can be, or set ADVISORIES=skip: the archive then says so.")
        return f"{told}."
    if deny("check", "--deny", "warnings", "advisories").returncode:
        sys.exit("advisories: checked: a dependency has one; update it, or ignore the advisory in deny.toml with a reason")
    return f"advisories: checked, none applies (advisory database at {', '.join(advisory_databases())})."


def deny(*arguments):
    return subprocess.run([tool("cargo-deny"), "--locked", *arguments], cwd=ROOT)


def advisory_databases():
    """The commits of cargo-deny's copies of the databases."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for database in sorted((home / "advisory-dbs").glob("*/.git")):
        yield build.output("git", "-C", str(database.parent), "rev-parse", "HEAD")


def tool(name):
    """The path of a cargo subcommand, built if need be."""
    return build.output(ROOT / "scripts/cargo-tool", name)


def tracked(*paths):
    """The files that a commit of everything would hold."""
    listed = build.output("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *paths)
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def collect(stage):
    """Copies what is released, with the zips where the module looks for them."""
    zips = [build.folder(arch) / f"{package}.zip" for arch in build.architectures() for package in build.PACKAGES]
    for file in (*map(ROOT.joinpath, tracked(*CONTENT)), *zips):
        copy(file, stage)


def copy(file, stage):
    target = stage / file.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)


def boms(arch, target):
    """A CycloneDX bill of materials for each function."""
    cyclonedx = tool("cargo-cyclonedx")
    target.mkdir()
    for package in build.PACKAGES:
        # In a copy without the other functions: features would be unified, and the files land beside the sources.
        with tempfile.TemporaryDirectory() as folder:
            sources = Path(folder).resolve()
            for name in tracked("Cargo.toml", "Cargo.lock", "crates"):
                if not name.startswith("crates/") or name.split("/")[1] in (package, "mesh-client", "mesh-pipeline"):
                    copy(ROOT / name, sources)
            command = [cyclonedx, "cyclonedx", "--manifest-path", sources / "crates" / package / "Cargo.toml"]
            command += ["--format", "json", "--spec-version", "1.5", "--describe", "binaries", "--no-build-deps", "--quiet"]
            command += ["--target", build.TARGETS[arch]]
            env = os.environ | {"SOURCE_DATE_EPOCH": str(TIME), "CARGO_NET_OFFLINE": "true"}
            if subprocess.run(command, env=env).returncode:
                sys.exit(f"cargo-cyclonedx failed for {package}")
            bom = (sources / "crates" / package / f"{package}_bin.cdx.json").read_text()
            (target / f"{package}.cdx.json").write_text(bom.replace(str(sources), ""))


def pack(stage, archive):
    """The archive of a folder, with SHA256SUMS inside and the archive's own checksum beside it."""
    files = sorted(file for file in stage.rglob("*") if file.is_file())
    sums = "".join(f"{digest(file)}  {file.relative_to(stage)}\n" for file in files)
    (stage / "SHA256SUMS").write_text(sums)
    archive.parent.mkdir(parents=True, exist_ok=True)
    unfinished = archive.with_suffix(".new")
    with (
        unfinished.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for file in (*files, stage / "SHA256SUMS"):
            entry = tarfile.TarInfo(str(file.relative_to(stage)))
            entry.size = file.stat().st_size
            entry.mtime = TIME
            entry.mode = 0o755 if file.stat().st_mode & 0o100 else 0o644
            with file.open("rb") as content:
                tar.addfile(entry, content)
    unfinished.replace(archive)
    Path(f"{archive}.sha256").write_text(f"{digest(archive)}  {archive.name}\n")
    return archive


def digest(file):
    return hashlib.sha256(file.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
