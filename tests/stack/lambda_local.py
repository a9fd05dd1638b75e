"""Runs a deployed zip behind the Lambda Runtime API, one loopback server for each worker process.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import os
import queue
import resource
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from .patches import log

# https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAYLOAD_BYTES = 6 * 1024 * 1024
_API = "/2018-06-01/runtime"


@dataclasses.dataclass
class Answer:
    """What an invocation came to. `error` is the value of X-Amz-Function-Error."""

    payload: bytes
    error: str | None = None


def failure(error_type, request_id, message):
    body = {"errorType": error_type, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    return Answer(json.dumps(body).encode(), "Unhandled")


@dataclasses.dataclass(frozen=True)
class Function:
    """What a worker is made from. Two invocations share a worker only if all of it is equal."""

    name: str
    version: str
    arn: str
    region: str
    handler: str
    code_sha256: str
    environment: tuple
    memory_size: int
    timeout: int
    log_group: str
    runtime: str = "provided.al2023"

    def command(self, root):
        """What is started: a Python function, as consumers have, runs on AWS's own runtime, in the tests' interpreter."""
        if self.runtime.startswith("python"):
            return [sys.executable, "-m", "awslambdaric", self.handler]
        return [root / "bootstrap"]


class RuntimeApi(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are written one by one: the second would wait for the worker's delayed acknowledgement.
    disable_nagle_algorithm = True
    worker = None

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path != f"{_API}/invocation/next":
            return self.reply(404)
        self.worker.output.pump()
        self.worker.ready.set()
        invocation = self.worker.invocations.get()
        if invocation is None:
            self.close_connection = True
            return None
        request_id, deadline, payload = invocation
        return self.reply(
            200,
            payload,
            {
                "Lambda-Runtime-Aws-Request-Id": request_id,
                "Lambda-Runtime-Deadline-Ms": str(deadline),
                "Lambda-Runtime-Invoked-Function-Arn": self.worker.function.arn,
                "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]};Sampled=0",
                "Content-Type": "application/json",
            },
        )

    def do_POST(self):
        if "Content-Length" not in self.headers or self.headers.get("Lambda-Runtime-Function-Response-Mode"):
            log.error("NOT-IMPLEMENTED a streamed Lambda answer (%s)", self.worker.function.name)
            return self.reply(411)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.path.rpartition("/")[2]
        self.worker.answers.put((kind, body))
        return self.reply(202, b'{"status":"OK"}')

    def reply(self, status, body=b"", headers=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Output:
    """A worker's stdout and stderr, line by line into CloudWatch Logs."""

    def __init__(self, pipe, write_lines):
        self.fd = pipe.fileno()
        os.set_blocking(self.fd, False)
        self.pipe = pipe
        self.write_lines = write_lines
        self.rest = b""
        self.lock = threading.Lock()
        self.ended = False
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        # Not select(), which knows 1,024 descriptors: the objects of a long run are open files of this process.
        written = select.poll()
        written.register(self.fd, select.POLLIN)
        while not self.ended:
            written.poll()
            self.pump()
        self.pipe.close()

    def pump(self):
        """All that was written until now: a worker's lines are in the log before its answer goes out."""
        with self.lock, contextlib.suppress(BlockingIOError):
            while not self.ended:
                data = os.read(self.fd, 1 << 16)
                self.ended = not data
                *lines, self.rest = (self.rest + data).split(b"\n")
                if self.ended and self.rest:
                    lines.append(self.rest)
                self.write_lines([line.decode(errors="replace") for line in lines])


class NoEntrypointError(Exception):
    """A zip's bootstrap can't be started."""


class DirectWay:
    """How workers reach AWS and MESH: at the addresses that they are given."""

    def __init__(self, url):
        self.url = url

    def open(self, name, environment):
        """A worker's environment, with the variables that say where AWS and MESH are."""
        return environment | {"AWS_ENDPOINT_URL": self.url}

    def begin(self, worker, payload):
        """The worker takes on an invocation."""

    def close(self, name):
        """The worker has ended."""


class Worker:
    def __init__(self, function, root, way, logs):
        self.function = function
        self.way = way
        self.logs = logs
        self.name = uuid.uuid4().hex
        self.stream = f"{datetime.datetime.now(datetime.UTC):%Y/%m/%d}/[{function.version}]{uuid.uuid4().hex}"
        self.invocations, self.answers = queue.Queue(), queue.Queue()
        self.ready = threading.Event()
        self.started = time.monotonic()
        self.init_ms = None
        handler = type("Handler", (RuntimeApi,), {"worker": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        logs.open(function.log_group, self.stream)
        environment = self.environment(root)
        try:
            self.process = subprocess.Popen(
                function.command(root),
                cwd=root,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except PermissionError as error:
            self.server.server_close()
            raise NoEntrypointError("fork/exec /var/task/bootstrap: permission denied") from error
        except OSError as error:
            self.server.server_close()
            text = f"Couldn't find valid bootstrap(s): [/var/task/bootstrap] ({error.strerror})"
            raise NoEntrypointError(text) from error
        # The nearest thing to a memory limit that needs no cgroup.
        size = function.memory_size * 1024 * 1024
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self.process.pid, resource.RLIMIT_DATA, (size, size))
            # Ours write no file: messages are streamed, secrets stay in memory.
            if function.runtime.startswith("provided"):
                resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, (0, 0))
        # Before the server runs: the worker's first request looks at it.
        self.output = Output(self.process.stdout, self.write_lines)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
        threading.Thread(target=self.wait_for_exit, daemon=True).start()

    def environment(self, root):
        function = self.function
        return self.way.open(self.name, dict(function.environment)) | {
            "AWS_ACCESS_KEY_ID": f"LAMBDA-{function.name}",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_LAMBDA_FUNCTION_NAME": function.name,
            "AWS_LAMBDA_FUNCTION_VERSION": function.version,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.log_group,
            "AWS_LAMBDA_LOG_STREAM_NAME": self.stream,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}",
            "LAMBDA_TASK_ROOT": str(root),
            "_HANDLER": function.handler or "bootstrap",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
        }

    def write_lines(self, lines):
        self.logs.write(self.function.log_group, self.stream, [line for line in lines if line])

    def wait_for_exit(self):
        code = self.process.wait()
        self.answers.put(("exit", f"exit status {code}" if code >= 0 else f"signal: {signal.strsignal(-code).lower()}"))

    def alive(self):
        return self.process.poll() is None

    def peak_rss_mb(self):
        with contextlib.suppress(OSError, StopIteration, ValueError):
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
            return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024
        return 0

    def invoke(self, payload, request_id):
        self.write_lines([f"START RequestId: {request_id} Version: {self.function.version}"])
        self.way.begin(self, payload)
        start = time.monotonic()
        deadline = int((time.time() + self.function.timeout) * 1000)
        self.invocations.put((request_id, deadline, payload))
        try:
            kind, body = self.answers.get(timeout=self.function.timeout)
        except queue.Empty:
            self.kill()
            answer = failure(
                "Sandbox.Timedout", request_id, f"Task timed out after {self.function.timeout:.2f} seconds"
            )
        else:
            answer = self.judge(kind, body, request_id)
        peak = self.peak_rss_mb()
        self.output.pump()
        self.report(request_id, start, peak, answer)
        return answer

    def judge(self, kind, body, request_id):
        if kind == "response":
            if len(body) > PAYLOAD_BYTES:
                return failure(
                    "Function.ResponseSizeTooLarge",
                    request_id,
                    f"Response payload size exceeded maximum allowed payload size ({PAYLOAD_BYTES} bytes).",
                )
            return Answer(body)
        if kind == "error":
            if not self.ready.is_set():
                self.kill()
            return Answer(body, "Unhandled")
        self.kill()
        return failure("Runtime.ExitError", request_id, f"Runtime exited with error: {body}")

    def report(self, request_id, start, peak, answer):
        lines = [f"END RequestId: {request_id}"]
        ms = (time.monotonic() - start) * 1000
        init = ""
        if self.init_ms is None:
            self.init_ms = (start - self.started) * 1000
            init = f"\tInit Duration: {self.init_ms:.2f} ms"
        if answer.error and not self.alive():
            lines.insert(0, f"{request_id} {json.loads(answer.payload)['errorMessage'].partition('Error: ')[2]}")
        lines.append(
            f"REPORT RequestId: {request_id}\tDuration: {ms:.2f} ms\tBilled Duration: {int(ms) + 1} ms"
            f"\tMemory Size: {self.function.memory_size} MB\tMax Memory Used: {peak} MB{init}"
        )
        self.write_lines(lines)

    def kill(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.invocations.put(None)
        threading.Thread(target=self.close, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.way.close(self.name)


class Pool:
    """Warm workers. With `size` of them at work, an invocation waits; AWS would start another."""

    def __init__(self, directory, way, size, logs):
        self.directory = Path(directory)
        self.way, self.size, self.logs = way, size, logs
        self.condition = threading.Condition()
        self.idle = []  # the worker that has been idle longest comes first
        self.busy = []
        self.retired = set()
        self.extracting = threading.Lock()

    def invoke(self, function, code, payload):
        request_id = str(uuid.uuid4())
        try:
            worker = self.take(function, code)
        except NoEntrypointError as error:
            return failure("Runtime.InvalidEntrypoint", request_id, str(error))
        try:
            return worker.invoke(payload, request_id)
        finally:
            self.give_back(worker)

    def take(self, function, code):
        with self.condition:
            while True:
                self.idle = [worker for worker in self.idle if worker.alive()]
                for worker in reversed(self.idle):
                    if worker.function == function:
                        self.idle.remove(worker)
                        self.busy.append(worker)
                        return worker
                if len(self.idle) + len(self.busy) < self.size:
                    break
                if self.idle:
                    self.idle.pop(0).kill()
                    break
                self.condition.wait()
            worker = Worker(function, self.extract(function.code_sha256, code), self.way, self.logs)
            self.busy.append(worker)
            return worker

    def give_back(self, worker):
        with self.condition:
            self.busy.remove(worker)
            retired = worker in self.retired
            self.retired.discard(worker)
            if worker.alive():
                worker.kill() if retired else self.idle.append(worker)
            self.condition.notify_all()

    def extract(self, code_sha256, code):
        root = self.directory / hashlib.sha256(code_sha256.encode()).hexdigest()[:16]
        with self.extracting:
            if not root.exists():
                unpacked = root.with_suffix(".new")
                with zipfile.ZipFile(io.BytesIO(code)) as archive:
                    for item in archive.infolist():
                        path = Path(archive.extract(item, unpacked))
                        # Without its run bit, a bootstrap fails on AWS too.
                        path.chmod((item.external_attr >> 16 & 0o777) or (0o755 if item.is_dir() else 0o644))
                unpacked.rename(root)
        return root

    def drop(self, name=None):
        """Kills the workers of a function, or of all, busy ones after their answer: the next invocation is a cold start."""
        with self.condition:
            self.retired |= {worker for worker in self.busy if name in (None, worker.function.name)}
            dropped = [worker for worker in self.idle if name in (None, worker.function.name)]
            self.idle = [worker for worker in self.idle if worker not in dropped]
        for worker in dropped:
            worker.kill()
        return len(dropped)

    def stop(self):
        with self.condition:
            for worker in self.idle + self.busy:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(worker.process.pid, signal.SIGKILL)

    def describe(self):
        with self.condition:
            return [
                {
                    "function": w.function.name,
                    "version": w.function.version,
                    "pid": w.process.pid,
                    "peak_rss_mb": w.peak_rss_mb(),
                    "busy": w in self.busy,
                }
                for w in self.idle + self.busy
            ]
