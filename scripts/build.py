#!/usr/bin/env python3
"""Builds each Lambda's binary and packs it into dist/<package>.zip: the same bytes wherever the same toolchain builds it.

ARCH=arm64 builds for Lambda's arm64, into dist/arm64/; ARCH="x86_64 arm64" for both.
"""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("poll", "fetch-chunk", "ack", "send", "track")
# By Lambda's names of the architectures.
TARGETS = {"x86_64": "x86_64-unknown-linux-gnu", "arm64": "aarch64-unknown-linux-gnu"}
# Of the runtime provided.al2023.
GLIBC = (2, 34)


def main():
    for arch in architectures():
        build(arch)


def architectures():
    """Those that ARCH names, as the module's variable does."""
    asked = (os.environ.get("ARCH") or "x86_64").split()
    if unknown := set(asked) - set(TARGETS):
        sys.exit(f"ARCH={' '.join(unknown)} is not an architecture of Lambda: use {' or '.join(TARGETS)}, or both")
    return asked


def build(arch):
    """Builds and packs all functions."""
    env = environment(TARGETS[arch])
    zips = folder(arch)
    zips.mkdir(parents=True, exist_ok=True)
    for package in PACKAGES:
        # One package at a time: a workspace build unifies features and would link S3 into poll.
        cargo = ["cargo", "build", "--release", "--locked", "--package", package, "--target", TARGETS[arch]]
        built = subprocess.run(cargo, cwd=ROOT, env=env)
        if built.returncode:
            sys.exit(built.returncode)
        binary = (Path(env["CARGO_TARGET_DIR"]) / TARGETS[arch] / "release" / package).read_bytes()
        check_glibc(package, binary)
        pack(binary, zips / f"{package}.zip")


def folder(arch):
    """Where the zips of an architecture are; the module looks there."""
    return ROOT / "dist" if arch == "x86_64" else ROOT / "dist" / arch


def environment(target):
    """cargo's environment: no path of this machine gets into a binary."""
    missing = []
    sysroot, installed = output("rustc", "--print", "sysroot", "--print", "target-libdir", "--target", target).split("\n")
    if not Path(installed).is_dir():
        missing.append(f"Rust's standard library for {target}: rustup target add {target}")
    linker = f"CARGO_TARGET_{target.upper().replace('-', '_')}_LINKER"
    env = os.environ.copy()
    machine = target.split("-")[0]
    if platform.machine() != machine and linker not in env:
        env[linker] = f"{machine}-linux-gnu-gcc"
        if not shutil.which(env[linker]):
            missing.append(
                f"a C compiler for {machine}: {env[linker]} (apt-get install gcc-{machine.replace('_', '-')}-linux-gnu), "
                f"or another that {linker} names"
            )
    if missing:
        sys.exit("\n".join([f"a build for {target} on {platform.machine()} needs:", *missing]))

    # As in the Makefile.
    cache = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    env.setdefault("CARGO_TARGET_DIR", str(cache / "mesh-aws/target"))
    env["CARGO_TARGET_DIR"] = os.path.abspath(env["CARGO_TARGET_DIR"])
    packages = json.loads(output("cargo", "metadata", "--locked", "--format-version", "1"))["packages"]
    registries = {str(Path(package["manifest_path"]).parents[1]) for package in packages if package["source"]}
    commit = re.search(r"^commit-hash: (.+)$", output("rustc", "--version", "--verbose"), re.M)[1]
    # Not ROOT: our own sources have relative paths already, and clones that share a target folder would rebuild all of it in turn.
    names = {env["CARGO_TARGET_DIR"]: "/target", f"{sysroot}/lib/rustlib/src/rust": f"/rustc/{commit}"}
    names |= dict.fromkeys(registries, "/registry")
    # Instead of RUSTFLAGS and the configuration's rustflags, which differ between machines.
    env["CARGO_ENCODED_RUSTFLAGS"] = "\x1f".join(f"--remap-path-prefix={path}={name}" for path, name in names.items())
    return env


def output(*command):
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return done.stdout.strip()


def check_glibc(package, binary):
    """Versions of symbols are plain text in a binary, whatever its architecture."""
    versions = re.findall(rb"GLIBC_(\d+)\.(\d+)", binary)
    needed = max((tuple(map(int, version)) for version in versions), default=(0, 0))
    if needed > GLIBC:
        sys.exit(
            f"{package} needs glibc {needed[0]}.{needed[1]}, but provided.al2023 has {GLIBC[0]}.{GLIBC[1]}: "
            "build on an older Linux, or with cargo-zigbuild for a target such as x86_64-unknown-linux-gnu.2.34"
        )


def pack(binary, file):
    """The zip with nothing in it that differs between two builds."""
    entry = zipfile.ZipInfo("bootstrap")
    entry.external_attr = 0o100755 << 16
    entry.create_system = 3
    entry.compress_type = zipfile.ZIP_DEFLATED
    unfinished = file.with_suffix(".new")
    with zipfile.ZipFile(unfinished, "w") as archive:
        archive.writestr(entry, binary)
    unfinished.replace(file)
    print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB ({len(binary) / 1e6:.1f} MB unpacked)", flush=True)


if __name__ == "__main__":
    main()
