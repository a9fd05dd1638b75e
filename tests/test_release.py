"""A release as a team takes it: from an https archive or a folder, on a machine with neither Rust nor Python."""

import functools
import hashlib
import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import tarfile
import threading
import tomllib
from pathlib import Path

import pytest
from stack.checks import Message, inbox_empty, received, sent
from stack.servers import StackError

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

import build  # noqa: E402
import release  # noqa: E402

VERSION = tomllib.loads((REPOSITORY / "Cargo.toml").read_text())["workspace"]["package"]["version"]
NAME = f"mesh-aws-{VERSION}"
OURS, OTHER = "X26T189", "X26T190"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The release of the working tree, without the bill of materials, which takes tools of its own."""
    folder = tmp_path_factory.mktemp("release")
    release.collect(folder / "stage")
    return release.pack(folder / "stage", folder / f"{NAME}.tar.gz")


def unpack(archive, folder):
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder


@pytest.fixture
def bare_machine(tmp_path, monkeypatch):
    """From here on a program finds Terraform alone, and the shell of the script that starts it."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("terraform", "bash"):
        (tools / tool).symlink_to(shutil.which(tool))
    monkeypatch.setenv("PATH", str(tools))
    assert not shutil.which("cargo") and not shutil.which("python3") and not shutil.which("make")


@pytest.fixture
def serve(stack, tmp_path, monkeypatch):
    """Serves a folder by https with a certificate that Terraform trusts; gives its URL."""
    certs = stack.folder / "certs"
    bundle = tmp_path / "trusted.pem"
    system = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    trusted = [Path(system)] if system and Path(system).exists() else []
    bundle.write_text("\n".join(file.read_text() for file in [*trusted, certs / "ca.pem"]))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    servers = []

    def start(folder):
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certs / "server.pem", certs / "server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"https://localhost:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def root(stack, name, source):
    """A Terraform root that takes the module from the source, initialised."""
    terraform = stack.terraform(name)
    example = {"name_prefix": name, "mesh_env": "local", "mesh_url": stack.mesh_url, "mailbox_ids": [OURS], "force_destroy": True}
    terraform.init(example, {"source": source})
    return terraform


@pytest.fixture
def advisory_database(tmp_path, monkeypatch):
    """git fetches RustSec's database from this folder; gives the folder."""
    database, home = tmp_path / "advisory-db", tmp_path / "cargo"
    home.mkdir()
    (home / "registry").symlink_to(Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo") / "registry")
    monkeypatch.setenv("CARGO_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{database.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/RustSec/advisory-db")
    monkeypatch.delenv("ADVISORIES", raising=False)
    return database


def advise_against(package, database):
    advisory = database / f"crates/{package}/RUSTSEC-2026-9999.md"
    advisory.parent.mkdir(parents=True)
    advisory.write_text(
        f'```toml\n[advisory]\nid = "RUSTSEC-2026-9999"\npackage = "{package}"\ndate = "2026-01-01"\n'
        "[versions]\npatched = []\n```\n\n# It has a fault\n\nIn every version.\n"
    )
    commit_all(database, "--initial-branch=main")
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=database, capture_output=True, text=True, check=True).stdout.strip()


def commit_all(folder, *init):
    git = ["git", "-c", "user.name=Tests", "-c", "user.email=tests@example.org"]
    for command in (["init", "--quiet", *init], ["add", "--all"], ["commit", "--quiet", "--message", "All of it"]):
        subprocess.run([*git, *command], cwd=folder, check=True)


def test_a_release_names_the_database_that_advises_against_nothing_in_it(advisory_database):
    commit = advise_against("no-crate-of-ours", advisory_database)
    assert release.check_advisories() == f"advisories: checked, none applies (advisory database at {commit})."


def test_no_release_is_made_with_a_crate_that_is_advised_against(advisory_database, monkeypatch):
    advise_against("rustls", advisory_database)
    # That skips a check which can't be made, not its outcome.
    monkeypatch.setenv("ADVISORIES", "skip")
    with pytest.raises(SystemExit, match="advisories: checked: a dependency has one"):
        release.check_advisories()


def test_no_release_is_made_unchecked_unless_it_says_so(advisory_database, monkeypatch):
    assert not advisory_database.exists()
    with pytest.raises(SystemExit, match="advisories: NOT checked.*ADVISORIES=skip"):
        release.check_advisories()
    monkeypatch.setenv("ADVISORIES", "skip")
    assert release.check_advisories() == "advisories: NOT checked: the advisory database could not be fetched."


@pytest.mark.parametrize("refused", ["licenses", "bans", "sources"])
def test_no_release_is_made_with_a_dependency_that_is_not_allowed(refused, monkeypatch):
    # A clean tree, and a cargo-deny that finds nothing else.
    monkeypatch.setattr(build, "output", lambda *command: "")
    monkeypatch.setattr(release, "deny", lambda *arguments: subprocess.CompletedProcess(arguments, int(refused in arguments)))
    monkeypatch.setattr(build, "main", lambda: pytest.fail("it was built"))
    with pytest.raises(SystemExit, match="a dependency is not what deny.toml allows"):
        release.main()


def functions(plan):
    return sorted(change for change in plan if ".aws_lambda_function." in change)


def test_the_archive_is_the_same_bytes_twice(archive, tmp_path):
    release.collect(tmp_path / "stage")
    assert release.pack(tmp_path / "stage", tmp_path / archive.name).read_bytes() == archive.read_bytes()


def test_the_archive_holds_what_a_team_needs_and_its_checksums(archive, tmp_path):
    folder = unpack(archive, tmp_path / NAME)
    found = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert {f"dist/{package}.zip" for package in build.PACKAGES} <= found
    assert {"README.md", "LICENSE", "CHANGELOG.md", "terraform/variables.tf", "terraform/examples/minimal/main.tf"} <= found
    assert [name for name in found if ".terraform" in name or "tfstate" in name or name.endswith(".tfvars")] == []
    sums = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    assert set(sums) == found - {"SHA256SUMS"}
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sums} == sums
    told = Path(f"{archive}.sha256").read_text()
    assert told == f"{hashlib.sha256(archive.read_bytes()).hexdigest()}  {archive.name}\n"


def test_no_link_of_its_documents_is_dead(archive, tmp_path):
    folder = unpack(archive, tmp_path / NAME)
    links = [
        (document, link)
        for document in folder.rglob("*.md")
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
        if "://" not in link
    ]
    assert len({document for document, _ in links}) > 5
    dead = [f"{document.relative_to(folder)}: {link}" for document, link in links if not (document.parent / link).exists()]
    assert dead == []


def test_the_module_plans_from_an_https_archive(archive, stack, serve, bare_machine):
    terraform = root(stack, "by-https", f"{serve(archive.parent)}/{archive.name}//terraform")
    assert len(functions(terraform.changes())) == len(build.PACKAGES)


def test_the_module_plans_from_a_folder_and_says_what_to_do_when_its_zips_are_missing(archive, stack, bare_machine):
    folder = unpack(archive, stack.terraform("by-folder").folder / NAME)
    terraform = root(stack, "by-folder", f"./{NAME}/terraform")
    assert len(functions(terraform.changes())) == len(build.PACKAGES)
    shutil.rmtree(folder / "dist")
    with pytest.raises(StackError) as refused:
        terraform.changes()
    for package in build.PACKAGES:
        assert f"dist/{package}.zip is missing" in str(refused.value)
    assert "run `make build`" in str(refused.value)
    assert "set function_zips_dir" in str(refused.value)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """What `make release` makes of a copy of the working tree elsewhere, with nothing that was compiled before."""
    home = tmp_path_factory.mktemp("elsewhere")
    copy = home / "copy"
    for name in release.tracked("."):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, copy / name)
    commit_all(copy)
    env = os.environ | {"CARGO_TARGET_DIR": str(home / "compiled here"), "ADVISORIES": "skip"}
    done = subprocess.run(["make", "release"], cwd=copy, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return copy


@pytest.mark.nightly
@pytest.mark.parametrize("package", build.PACKAGES)
def test_two_builds_in_different_folders_give_the_same_zip(released, package):
    here, there = (folder / f"dist/{package}.zip" for folder in (REPOSITORY, released))
    assert hashlib.sha256(here.read_bytes()).hexdigest() == hashlib.sha256(there.read_bytes()).hexdigest()


@pytest.mark.nightly
def test_a_release_says_what_is_in_it_and_whether_advisories_were_checked(released, tmp_path):
    sbom = unpack(released / f"dist/release/{NAME}.tar.gz", tmp_path) / "sbom"
    assert (sbom / "advisories.txt").read_text().startswith(("advisories: checked, none applies", "advisories: NOT checked"))
    texts = {package: (sbom / f"x86_64/{package}.cdx.json").read_text() for package in build.PACKAGES}
    for package, text in texts.items():
        bom = json.loads(text)
        assert (bom["bomFormat"], bom["metadata"]["component"]["name"]) == ("CycloneDX", package)
        linked = {(component["name"], component["version"]) for component in bom["components"]}
        assert len(linked) > 100
        assert ("aws-sdk-s3" in {name for name, _ in linked}) == (package in ("fetch-chunk", "send"))
        assert "file:///tmp" not in text and str(released.parent) not in text


@pytest.mark.nightly
def test_a_release_is_applied_from_its_https_archive_and_moves_a_message_each_way(released, stack, serve, bare_machine):
    url = serve(released / "dist/release")
    pipeline = stack.deploy("released", [OURS], source=f"{url}/{NAME}.tar.gz//terraform")
    pipeline.capture_events()
    incoming = Message(OTHER, OURS, b"to us")
    message_id = incoming.send(stack)
    assert pipeline.poll(OURS)[-1]["status"] == "SUCCEEDED"
    assert received(pipeline, message_id, incoming) == []
    assert inbox_empty(pipeline, OURS) == []
    outgoing = Message(OURS, OTHER, b"from us", content_type="text/plain")
    version = pipeline.put("outbound/1.txt", outgoing.body, outgoing.metadata, ContentType=outgoing.content_type)
    pipeline.wait_sent("outbound/1.txt", version)
    assert sent(pipeline, "outbound/1.txt", version, outgoing) == []
