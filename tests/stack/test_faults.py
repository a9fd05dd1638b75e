"""The proxy between the functions and what they call: each kind of fault befalls the call that it is scripted for, and no other."""

import contextlib
import json
import re
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from stack import certificates, servers

BODY = json.dumps({"text": "x" * 2000}).encode()


class Upstream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen = None

    def log_message(self, *_):
        pass

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.append((self.path, len(body)))
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


    def do_POST(self):
        """Answers without having read what is sent, and reads no more of it."""
        self.send_response(423)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.wfile.flush()
        time.sleep(0.5)
        self.close_connection = True


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    certificates.make(folder / "certs")
    handler = type("Handler", (Upstream,), {"seen": []})
    upstream = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{upstream.server_port}"
    # In the place of both servers.
    state = {"url": url, "plain_url": url, "pid": 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(servers, "SERVERS", ("faults",))
        for name in ("aws", "mesh"):
            (folder / f"{name}.json").write_text(json.dumps(state))
        servers.start(folder, names=("faults",))
        yield Proxy(json.loads((folder / "faults.json").read_text())["url"], handler.seen)
        servers.stop(folder)
    upstream.shutdown()


class Proxy:
    def __init__(self, url, seen):
        self.url, self.seen = url, seen

    def post(self, path, **body):
        answer = requests.post(f"{self.url}/{path}", json=body, timeout=10)
        answer.raise_for_status()
        return answer.json()

    def calls(self, cell):
        return requests.get(f"{self.url}/calls", params={"cell": cell}, timeout=10).json()


@pytest.fixture
def worker(proxy, request):
    """A process that stands for a function at work on something of this test's."""
    cell = re.sub(r"\W", "-", request.node.name)
    process = subprocess.Popen(["sleep", "60"], start_new_session=True)
    address = proxy.post("workers", name=cell)["aws_url"]
    proxy.post("cells", cell=cell, pattern=re.escape(f'"{cell}"'))
    payload = json.dumps({"execution": f"arn:{cell}", "mailbox": cell})
    proxy.post("invocations", name=cell, pid=process.pid, function="fetch", payload=payload)
    yield cell, address, process
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    process.wait()


def put(address, path="/thing?x-id=PutObject"):
    return requests.put(f"{address}{path}", data=b"y" * 300_000, timeout=10)


def test_without_a_fault_calls_pass_and_are_noted(proxy, worker):
    cell, address, _ = worker
    with requests.Session() as session:
        answers = [session.put(f"{address}/{cell}?x-id=UploadPart", data=b"abc", timeout=10) for _ in range(2)]
    assert [answer.content for answer in answers] == [BODY, BODY]
    noted = [(call["n"], call["call"], call["status"], call["fault"]) for call in proxy.calls(cell)]
    assert noted == [(1, "fetch aws UploadPart", 200, None), (2, "fetch aws UploadPart", 200, None)]
    assert (f"/{cell}?x-id=UploadPart", 3) in proxy.seen


def test_an_answer_before_the_end_of_the_request_is_passed_on(proxy, worker):
    _, address, _ = worker
    for _ in range(3):
        answer = requests.post(f"{address}/early", data=b"y" * 8_000_000, timeout=20)
        assert (answer.status_code, answer.content) == (423, b"{}")


def test_an_execution_stays_in_the_cell_in_which_it_began(proxy, worker):
    cell, address, process = worker
    payload = json.dumps({"execution": f"arn:{cell}", "row": "out#1"})
    proxy.post("invocations", name=cell, pid=process.pid, function="send", payload=payload)
    put(address)
    assert [call["call"] for call in proxy.calls(cell)] == ["send aws PutObject"]


@pytest.mark.parametrize("kind, reaches", [("kill-before", False), ("kill-after", True), ("reset-before", False), ("reset-after", True)])
def test_a_call_without_an_answer(proxy, worker, kind, reaches):
    cell, address, process = worker
    proxy.post("faults", cell=cell, kind=kind, at=2)
    put(address)
    with pytest.raises(requests.ConnectionError):
        put(address, f"/{cell}")
    assert any(path == f"/{cell}" for path, _ in proxy.seen) == reaches
    time.sleep(0.1)
    assert (process.poll() is not None) == kind.startswith("kill")
    assert put(address).status_code == 200


@pytest.mark.parametrize("late", [False, True])
def test_another_answer(proxy, worker, late):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, kind="status", status=503, body="<xml/>", headers={"Retry-After": "7"}, late=late, call="fetch aws .*")
    answer = put(address, f"/{cell}")
    assert (answer.status_code, answer.text, answer.headers["Retry-After"]) == (503, "<xml/>", "7")
    assert any(path == f"/{cell}" for path, _ in proxy.seen) == late
    assert put(address).status_code == 200


def test_another_body(proxy, worker):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, kind="body", body='{"half')
    answer = put(address)
    assert (answer.status_code, answer.text) == (200, '{"half')


@pytest.mark.parametrize("kind", ["half", "long"])
def test_a_body_that_ends_too_soon(proxy, worker, kind):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, kind=kind)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        put(address)


def test_a_corrupt_body(proxy, worker):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, kind="corrupt")
    answer = put(address)
    assert len(answer.content) == len(BODY) and answer.content != BODY


@pytest.mark.parametrize("fault", [{"kind": "drip", "rate": 1000}, {"kind": "delay", "seconds": 1.5}])
def test_a_slow_answer(proxy, worker, fault):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, **fault)
    began = time.monotonic()
    assert put(address).content == BODY
    assert time.monotonic() - began > 1


def test_a_fault_by_chance_has_its_share(proxy, worker):
    cell, address, _ = worker
    proxy.post("faults", cell=cell, kind="status", probability=0.3)
    struck = sum(put(address).status_code == 500 for _ in range(200))
    assert 30 < struck < 90


def test_an_unknown_kind_is_refused(proxy):
    assert requests.post(f"{proxy.url}/faults", json={"cell": "x", "kind": "melt"}, timeout=10).status_code == 500
