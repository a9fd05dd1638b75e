"""The NHS's MESH sandbox behind TLS, stricter than it comes: `python -m stack.mesh --dir DIR`.

Client certificates are required, a token is good for one request, its time must be within two hours of the clock
(as on the live service), and answers can be scripted. DIR gets certs/, shared-key and, once it is ready, mesh.json
{"url", "plain_url", "admin_url", "pid"}. plain_url is the same without TLS, for a proxy that ends TLS itself. The admin
listener is plain HTTP for tests only: the sandbox itself, and `/_requests`, `/_answers`.
"""

import argparse
import asyncio
import base64
import contextlib
import dataclasses
import datetime
import json
import os
import re
import secrets
import signal
import socket
import ssl
from collections import deque
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from stack import certificates

TOLERANCE = datetime.timedelta(hours=2)
LOGGED_HEADERS = (
    "accept",
    "accept-encoding",
    "content-encoding",
    "content-length",
    "content-type",
    "mex-chunk-range",
    "user-agent",
)
MAILBOXES = ("X26ABC1", "X26ABC2", "X26ABC3", "X26ABC123", "X26ABC456", *(f"X26T{number:03}" for number in range(1, 2100)))


def password(mailbox):
    """The mailbox's password: each its own, most with colons and a space, which MESH does not escape."""
    return "password" if mailbox == "X26ABC1" else f"p:a:s:s w0rd {mailbox}!"


def load_sandbox(shared_key):
    """The sandbox's application, with a memory store and our mailboxes; its files stay as they were installed."""
    os.environ |= {"AUTH_MODE": "full", "STORE_MODE": "memory", "SHARED_KEY": shared_key}
    from mesh_sandbox.models.mailbox import Mailbox
    from mesh_sandbox.store.canned_store import CannedStore

    CannedStore._load_mailboxes = lambda _: {
        name: Mailbox(name, f"Test mailbox {name}", ods_code="X26", org_code="X26", password=password(name))
        for name in MAILBOXES
    }
    from mesh_sandbox.api import app
    from mesh_sandbox.dependencies import get_fernet, get_messaging

    # Made when the first requests come, in threads: two that come at once would get a store each, and one message would vanish.
    get_messaging(), get_fernet()
    return app


@dataclasses.dataclass
class Answer:
    """A scripted answer: `status` None lets the request through after the delay, with changed request headers;
    `late` lets it take effect and then gives the scripted answer in place of the real one. `base64`: a body of bytes."""

    method: str
    path: str
    status: int | None = None
    headers: dict = dataclasses.field(default_factory=dict)
    body: str = ""
    base64: str = ""
    delay: float = 0
    times: int = 1
    late: bool = False
    request_headers: dict = dataclasses.field(default_factory=dict)

    def fits(self, method, path):
        return self.times > 0 and method == self.method and re.fullmatch(self.path, path)


class Strict:
    """ASGI middleware: scripted answers, one use per token, the clock, and a log of requests without tokens."""

    def __init__(self, app):
        self.app = app
        self.tokens = set()
        self.answers = []
        self.requests = deque(maxlen=100_000)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        entry = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "received": 0,
            "sent": 0,
            "headers": {name: headers[name] for name in LOGGED_HEADERS if name in headers},
            "response_headers": {},
        }
        self.requests.append(entry)

        async def counted_receive():
            message = await receive()
            entry["received"] += len(message.get("body", b""))
            return message

        async def logged_send(message):
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
                sent = {name.decode("latin-1"): value.decode("latin-1") for name, value in message["headers"]}
                entry["response_headers"] = {name: sent[name] for name in LOGGED_HEADERS if name in sent}
            entry["sent"] += len(message.get("body", b""))
            await send(message)

        refusal = self.refusal(headers.get("authorization"))
        if refusal:
            await drain(counted_receive)
            body = {"detail": [{"event": "", "code": "", "msg": refusal}]}
            answer = JSONResponse(body, 403, media_type="application/vnd.mesh.v2+json")
            return await answer(scope, counted_receive, logged_send)
        scripted = next((a for a in self.answers if a.fits(scope["method"], scope["path"])), None)
        if scripted:
            scripted.times -= 1
            await asyncio.sleep(scripted.delay)
            if scripted.status is not None:
                if scripted.late:
                    await self.app(scope, counted_receive, swallow)
                else:
                    await drain(counted_receive)
                body = base64.b64decode(scripted.base64) or scripted.body
                answer = Response(body, scripted.status, scripted.headers)
                return await answer(scope, counted_receive, logged_send)
            headers |= scripted.request_headers
            scope["headers"] = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await self.app(scope, counted_receive, logged_send)

    def refusal(self, authorization):
        """Why the live service would refuse this token although the sandbox takes it."""
        if not authorization:
            return None
        if authorization in self.tokens:
            return "Token was used before"
        self.tokens.add(authorization)
        try:
            stamp = datetime.datetime.strptime(authorization.split(":")[3], "%Y%m%d%H%M")
        except (IndexError, ValueError):
            return "Token has no timestamp"
        if abs(datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - stamp) > TOLERANCE:
            return "Token's timestamp is more than two hours off"
        return None


async def swallow(_message):
    pass


# An answer before the body has been read would show up as a broken connection at some clients.
async def drain(receive):
    while (await receive()).get("more_body"):
        pass


def admin(strict, sandbox):
    """The tests' own listener: the request log, scripted answers, and the sandbox with its admin calls."""

    async def requests(request):
        pattern = request.query_params.get("path", ".*")
        return JSONResponse([entry for entry in strict.requests if re.fullmatch(pattern, entry["path"])])

    async def add(request):
        strict.answers.append(Answer(**await request.json()))
        return JSONResponse({})

    async def clear(request):
        pattern = request.query_params.get("path")
        strict.answers = [answer for answer in strict.answers if pattern and answer.path != pattern]
        return JSONResponse({})

    return Starlette(
        routes=[
            Route("/_requests", requests),
            Route("/_answers", add, methods=["POST"]),
            Route("/_answers", clear, methods=["DELETE"]),
            Mount("/", sandbox),
        ]
    )


class Server(uvicorn.Server):
    # The servers share the process, and each would take the signals for itself.
    def capture_signals(self):
        return contextlib.nullcontext()


def listen(port):
    # asyncio takes a socket for TCP's, and has small writes leave at once, by this alone.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    return listener, listener.getsockname()[1]


async def serve(folder, port):
    certs = folder / "certs"
    certificates.make(certs)
    shared_key = secrets.token_urlsafe(24)
    (folder / "shared-key").write_text(shared_key)
    sandbox = load_sandbox(shared_key)
    strict = Strict(sandbox)
    secure, secure_port = listen(port)
    plain, plain_port = listen(0)
    admin_only, admin_port = listen(0)
    common = {"log_level": "warning", "access_log": False}
    tls = {
        "ssl_certfile": certs / "server.pem",
        "ssl_keyfile": certs / "server.key",
        "ssl_ca_certs": certs / "ca.pem",
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
    servers = [
        Server(uvicorn.Config(strict, **common, **tls)),
        Server(uvicorn.Config(strict, **common)),
        Server(uvicorn.Config(admin(strict, sandbox), **common)),
    ]

    def stop():
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    running = [
        asyncio.create_task(server.serve(sockets=[listener]))
        for server, listener in zip(servers, (secure, plain, admin_only), strict=True)
    ]
    while not all(server.started for server in servers):
        await asyncio.sleep(0.01)
    ready = {
        "url": f"https://localhost:{secure_port}",
        "plain_url": f"http://127.0.0.1:{plain_port}",
        "admin_url": f"http://127.0.0.1:{admin_port}",
        "pid": os.getpid(),
    }
    unfinished = folder / "mesh.json.new"
    unfinished.write_text(json.dumps(ready))
    unfinished.rename(folder / "mesh.json")
    await asyncio.gather(*running)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    arguments.dir.mkdir(parents=True, exist_ok=True)
    asyncio.run(serve(arguments.dir, arguments.port))


if __name__ == "__main__":
    main()
