"""A proxy between the functions and what they call, for tests that need something to go wrong: `python -m stack.faults --dir DIR`.

Each worker process of a function has two listeners of its own here, one in front of AWS and one (TLS) in front of MESH, so that each
call is known to belong to one invocation. Tests name what an invocation belongs to as a cell, a pattern that fits its payload; faults
are scripted for a cell's calls. DIR must hold aws.json and mesh.json; it gets faults.json {"url", "pid"} once the proxy is ready.
"""

import argparse
import asyncio
import collections
import contextlib
import dataclasses
import itertools
import json
import os
import random
import re
import signal
import ssl
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import h11
import requests
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

BLOCK = 1 << 16
# A connection that is reset, rather than closed: a linger time of 0.
RESET = b"\1\0\0\0\0\0\0\0"
# What takes an answer's place.
AWS_ERROR = '{{"__type":"{0}","message":"by script"}}'

KINDS = (
    "kill-before",  # SIGKILL of the worker; the server never sees the call
    "kill-after",  # SIGKILL after the server has done the call and before the worker knows
    "abort",  # StopExecution of the worker's execution, before the call; the worker goes on
    "reset-before",
    "reset-after",
    "status",  # `status`, `headers`, `body` in place of the call; with `late`, after the server has done it
    "body",  # the server's answer with another `body`
    "half",  # half of the answer's body, then a reset
    "long",  # a Content-Length that promises more than comes
    "corrupt",  # the body with flipped bits
    "drip",  # the body at `rate` bytes a second
    "delay",  # the call after `seconds`
)


@dataclasses.dataclass
class Fault:
    """What goes wrong with calls of a cell. `call` is a pattern for "function service operation"; `at` the number of the fitting call,
    `times` how many from there on. `probability` instead of both: what befalls a cell's n-th call then depends on the seed alone."""

    cell: str
    kind: str
    call: str = ".*"
    at: int = 1
    times: int = 1
    probability: float | None = None
    seed: str = "1"
    status: int = 500
    headers: dict = dataclasses.field(default_factory=dict)
    body: str = ""
    late: bool = False
    rate: int = 1000
    seconds: float = 1
    seen: int = 0
    done: int = 0

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")

    def strikes(self, cell, call, n):
        """Whether it befalls this call, the cell's n-th; counts it."""
        if self.cell != cell or not re.fullmatch(self.call, call):
            return False
        if self.probability is not None:
            return random.Random(f"{self.seed} {n} {self.kind} {self.late}").random() < self.probability
        self.seen += 1
        return self.at <= self.seen < self.at + self.times


@dataclasses.dataclass
class Worker:
    """A function's process and what it works on."""

    name: str
    pid: int = 0
    function: str = ""
    cell: str | None = None
    execution: str | None = None
    invocation: int = 0
    servers: list = dataclasses.field(default_factory=list)


class Plan:
    """Cells, faults and the log of calls."""

    def __init__(self):
        self.cells = {}
        self.executions = {}
        self.faults = []
        self.calls = collections.defaultdict(list)
        self.invocations = itertools.count(1)

    def begin(self, worker, pid, function, payload):
        """The worker takes on an invocation. What was once known to belong to a cell does so for the whole execution."""
        worker.pid, worker.function, worker.invocation = pid, function, next(self.invocations)
        try:
            execution = json.loads(payload).get("execution")
        except (ValueError, AttributeError):
            execution = None
        found = next((cell for cell, pattern in self.cells.items() if re.search(pattern, payload)), None)
        worker.cell, worker.execution = found or self.executions.get(execution), execution
        if execution and worker.cell:
            self.executions[execution] = worker.cell

    def call(self, worker, service, operation):
        """Notes a call; returns its record and the fault that befalls it."""
        text = f"{worker.function} {service} {operation}"
        n = len(self.calls[worker.cell]) + 1
        fault = next((fault for fault in self.faults if fault.strikes(worker.cell, text, n)), None)
        record = {
            "n": n,
            "time": round(time.time(), 3),
            "invocation": worker.invocation,
            "call": text,
            "fault": fault and fault.kind,
            "status": None,
        }
        if fault:
            fault.done += 1
        if worker.cell:
            self.calls[worker.cell].append(record)
        return record, fault


def operation_of(service, request, target):
    """The call's name, as the service's documentation has it where the request tells it."""
    headers = {name.lower(): value for name, value in request.headers}
    method = request.method.decode()
    parts = urlsplit(target)
    query = parse_qs(parts.query, keep_blank_values=True)
    if service == "mesh":
        return _mesh_operation(method, parts.path)
    if b"x-amz-target" in headers:
        return headers[b"x-amz-target"].decode().rpartition(".")[2]
    if "x-id" in query:
        return query["x-id"][0]
    marks = [mark for mark in ("uploads", "uploadId", "list-type", "versions") if mark in query]
    return " ".join([method, *marks])


def _mesh_operation(method, path):
    rest = path.removeprefix("/messageexchange/").split("/")[1:]
    match method, rest:
        case "POST", []:
            return "handshake"
        case "GET", ["inbox"]:
            return "list"
        case "GET", ["inbox", *_]:
            return "download"
        case "PUT", ["inbox", *_]:
            return "acknowledge"
        case "GET", ["outbox", "tracking", *_]:
            return "track"
        case "POST", ["outbox"]:
            return "send"
        case "POST", ["outbox", *_]:
            return "send chunk"
    return f"{method} {path}"


class Broken(Exception):
    """The connection to the function ends here, by script."""


class Connection:
    """One connection of a function, and its calls one after the other."""

    def __init__(self, plan, worker, service, upstream, aws_url, reader, writer):
        self.plan, self.worker, self.service, self.upstream, self.aws_url = plan, worker, service, upstream, aws_url
        self.reader, self.writer = reader, writer
        self.down = h11.Connection(h11.SERVER)

    async def run(self):
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError, ssl.SSLError, asyncio.IncompleteReadError):
            try:
                while await self.exchange():
                    self.down.start_next_cycle()
            except Broken:
                self.reset()
                return
        self.writer.close()

    def reset(self):
        sock = self.writer.get_extra_info("socket")
        with contextlib.suppress(OSError):
            sock.setsockopt(1, 13, RESET)  # SOL_SOCKET, SO_LINGER
        self.writer.transport.abort()

    async def event(self):
        while (event := self.down.next_event()) is h11.NEED_DATA:
            if self.down.they_are_waiting_for_100_continue:
                self.writer.write(self.down.send(h11.InformationalResponse(status_code=100, headers=[])))
            self.down.receive_data(await self.reader.read(BLOCK))
        return event

    async def answer(self, event):
        self.writer.write(self.down.send(event))
        await self.writer.drain()

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.worker.pid, signal.SIGKILL)
        raise Broken

    def abort(self):
        headers = {
            "X-Amz-Target": "AWSStepFunctions.StopExecution",
            "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/eu-west-2/states/aws4_request, SignedHeaders=host, Signature=0",
        }
        body = json.dumps({"executionArn": self.worker.execution, "error": "Aborted", "cause": "by script"})
        requests.post(self.aws_url, data=body, headers=headers, timeout=30).raise_for_status()

    async def exchange(self):
        request = await self.event()
        if isinstance(request, h11.ConnectionClosed):
            return False
        target = request.target.decode()
        operation = operation_of(self.service, request, target)
        record, fault = self.plan.call(self.worker, self.service, operation)
        kind = fault.kind if fault else None
        if kind == "kill-before":
            self.kill()
        if kind == "reset-before":
            raise Broken
        # Between two invocations a worker belongs to no execution.
        if kind == "abort" and self.worker.execution:
            await asyncio.to_thread(self.abort)
        if kind == "delay":
            await asyncio.sleep(fault.seconds)
        if kind == "status" and not fault.late:
            while not isinstance(await self.event(), h11.EndOfMessage):
                pass
            record["status"] = fault.status
            await self.scripted(fault.status, fault.headers, fault.body)
            return self.keeps_open()
        head, blocks, close = await self.forward(request)
        record["status"] = head.status_code
        try:
            if kind in ("kill-after", "reset-after"):
                async for _ in blocks:
                    pass
                self.kill() if kind == "kill-after" else None
                raise Broken
            if kind in ("status", "body"):
                async for _ in blocks:
                    pass
                status = fault.status if kind == "status" else head.status_code
                await self.scripted(status, fault.headers, fault.body)
            elif kind in ("half", "long", "corrupt"):
                # Of an answer without a body nothing but all of it can be missing.
                if request.method == b"HEAD":
                    raise Broken
                await self.damaged(kind, head, b"".join([block async for block in blocks]))
            else:
                await self.answer(head)
                async for block in blocks:
                    for start in range(0, len(block), fault.rate if kind == "drip" else BLOCK):
                        await self.answer(h11.Data(block[start : start + (fault.rate if kind == "drip" else BLOCK)]))
                        if kind == "drip":
                            await asyncio.sleep(1)
                await self.answer(h11.EndOfMessage())
        finally:
            close()
        return self.keeps_open()

    def keeps_open(self):
        return self.down.our_state is h11.DONE and self.down.their_state is h11.DONE

    async def scripted(self, status, headers, body):
        body = body.encode()
        fields = {"Content-Type": "application/json"} | headers | {"Content-Length": str(len(body))}
        await self.answer(h11.Response(status_code=status, headers=list(fields.items())))
        if body:
            await self.answer(h11.Data(body))
        await self.answer(h11.EndOfMessage())

    async def damaged(self, kind, head, body):
        fields = [(n, v) for n, v in head.headers if n not in (b"content-length", b"transfer-encoding")]
        length = len(body) + (10 if kind == "long" else 0)
        fields.append((b"Content-Length", str(length).encode()))
        await self.answer(h11.Response(status_code=head.status_code, headers=fields, reason=head.reason))
        if kind == "corrupt":
            middle = len(body) // 2
            body = body[:middle] + bytes(byte ^ 0xA5 for byte in body[middle:])
        part = body[: len(body) // 2] if kind == "half" else body
        if part:
            await self.answer(h11.Data(part))
        if kind != "corrupt":
            raise Broken
        await self.answer(h11.EndOfMessage())

    async def forward(self, request):
        """Sends the request on while its body comes in; returns the answer's head, its blocks, and how to close."""
        reader, writer = await asyncio.open_connection(*self.upstream)
        up = h11.Connection(h11.CLIENT)
        fields = [(n, v) for n, v in request.headers if n not in (b"connection", b"expect")]
        writer.write(
            up.send(h11.Request(method=request.method, target=request.target, headers=[*fields, (b"Connection", b"close")]))
        )

        async def send_body():
            while True:
                event = await self.event()
                # A server that answers early may read no more; what the function still sends is for nobody.
                if not (head.done() or writer.is_closing()):
                    with contextlib.suppress(ConnectionError):
                        writer.write(up.send(event))
                        await writer.drain()
                if isinstance(event, h11.EndOfMessage):
                    return

        async def received():
            while (event := up.next_event()) is h11.NEED_DATA:
                up.receive_data(await reader.read(BLOCK))
            return event

        async def blocks():
            while isinstance(event := await received(), h11.Data):
                yield bytes(event.data)

        async def first():
            while isinstance(found := await received(), h11.InformationalResponse):
                pass
            if not isinstance(found, h11.Response):
                raise Broken
            return found

        head = asyncio.ensure_future(first())
        try:
            await send_body()
            head = await head
        except BaseException:
            if isinstance(head, asyncio.Future):
                head.cancel()
            writer.close()
            raise
        kept = [(n, v) for n, v in head.headers if n != b"connection"]
        return h11.Response(status_code=head.status_code, headers=kept, reason=head.reason), blocks(), writer.close


class Proxy:
    """The listeners of all workers, and the tests' own interface."""

    def __init__(self, folder):
        self.plan = Plan()
        self.workers = {}
        self.upstream = {name: json.loads((folder / f"{name}.json").read_text()) for name in ("aws", "mesh")}
        certs = folder / "certs"
        self.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certs / "ca.pem")
        self.tls.verify_mode = ssl.CERT_REQUIRED
        self.tls.load_cert_chain(certs / "server.pem", certs / "server.key")

    async def open(self, name):
        worker = self.workers[name] = Worker(name)
        ports = {}
        for service, url, tls in (
            ("aws", self.upstream["aws"]["url"], None),
            ("mesh", self.upstream["mesh"]["plain_url"], self.tls),
        ):
            parts = urlsplit(url)

            async def connected(reader, writer, service=service, upstream=(parts.hostname, parts.port)):
                await Connection(self.plan, worker, service, upstream, self.upstream["aws"]["url"], reader, writer).run()

            server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
            worker.servers.append(server)
            ports[service] = server.sockets[0].getsockname()[1]
        return {
            "aws_url": f"http://127.0.0.1:{ports['aws']}",
            "mesh_url": f"https://localhost:{ports['mesh']}",
            "in_front_of": self.upstream["mesh"]["url"],
        }

    def close(self, name):
        for server in self.workers.pop(name).servers:
            server.close()

    def application(self):
        async def workers(request):
            given = await request.json()
            if request.method == "POST":
                return JSONResponse(await self.open(given["name"]))
            self.close(given["name"])
            return JSONResponse({})

        async def invocations(request):
            given = await request.json()
            worker = self.workers[given["name"]]
            self.plan.begin(worker, given["pid"], given["function"], given["payload"])
            return JSONResponse({})

        async def cells(request):
            given = await request.json()
            self.plan.cells[given["cell"]] = given["pattern"]
            return JSONResponse({})

        async def faults(request):
            if request.method == "POST":
                fault = Fault(**await request.json())
                self.plan.faults.append(fault)
            elif request.method == "DELETE":
                cell = request.query_params.get("cell")
                self.plan.faults = [fault for fault in self.plan.faults if cell and fault.cell != cell]
            return JSONResponse([dataclasses.asdict(fault) for fault in self.plan.faults])

        async def calls(request):
            return JSONResponse(self.plan.calls.get(request.query_params["cell"], []))

        return Starlette(
            routes=[
                Route("/workers", workers, methods=["POST", "DELETE"]),
                Route("/invocations", invocations, methods=["POST"]),
                Route("/cells", cells, methods=["POST"]),
                Route("/faults", faults, methods=["GET", "POST", "DELETE"]),
                Route("/calls", calls),
            ]
        )


async def serve(folder):
    proxy = Proxy(folder)
    config = uvicorn.Config(proxy.application(), host="127.0.0.1", port=0, log_level="warning", access_log=False)
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    unfinished = folder / "faults.json.new"
    unfinished.write_text(json.dumps({"url": f"http://127.0.0.1:{port}", "pid": os.getpid()}))
    unfinished.rename(folder / "faults.json")
    await running


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.dir))


if __name__ == "__main__":
    main()
