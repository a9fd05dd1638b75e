"""A function behind the Lambda Runtime API, and what it costs."""

import contextlib
import dataclasses
import json
import time
import uuid
from pathlib import Path

from stack import lambda_local

from . import local


class BenchError(Exception):
    """A subject did not do what is measured."""


@dataclasses.dataclass
class Cost:
    """What something took: seconds, seconds of CPU, MiB of memory at the peak."""

    wall: float
    cpu: float
    peak: float


class Output:
    """A function's log, kept to be shown if it fails."""

    def __init__(self):
        self.lines = []

    def open(self, *_):
        pass

    def write(self, _group, _stream, lines):
        self.lines = (self.lines + lines)[-50:]


class Worker:
    """One process, as Lambda would keep it warm."""

    def __init__(self, name, root, environment, memory, place, runtime="provided.al2023", handler="bootstrap"):
        function = lambda_local.Function(
            name=name,
            version="1",
            arn=f"arn:aws:lambda:{local.REGION}:123456789012:function:{name}:1",
            region=local.REGION,
            handler=handler,
            code_sha256=name,
            environment=tuple(environment.items()),
            memory_size=memory,
            timeout=300,
            log_group=name,
            runtime=runtime,
        )
        self.log = Output()
        self.worker = _Worker(function, Path(root), _Way(place), self.log)

    def invoke(self, payload):
        """The answer."""
        answer = self.worker.invoke(json.dumps(payload).encode(), str(uuid.uuid4()))
        if answer.error:
            log = "\n".join(self.log.lines)
            raise BenchError(f"{self.worker.function.name} failed: {answer.payload.decode()}\n{log}")
        return json.loads(answer.payload)

    @property
    def age(self):
        """Seconds since it was spawned."""
        return time.monotonic() - self.worker.started

    @property
    def cpu(self):
        """Seconds of CPU so far, all threads."""
        # Linux numbers the CPU clock of a process by its pid: clock_getcpuclockid(3).
        return time.clock_gettime((~self.worker.process.pid << 3) | 2)

    @property
    def peak(self):
        """MiB of memory at the peak (VmHWM)."""
        lines = Path(f"/proc/{self.worker.process.pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024

    def close(self):
        """Ends the process; its open request breaks off with it, which is no error."""
        self.worker.server.handle_error = lambda *_: None
        self.worker.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Way(lambda_local.DirectWay):
    def __init__(self, place):
        super().__init__(place.aws_url)
        self.urls = {f"AWS_ENDPOINT_URL_{service.upper()}": url for service, url in place.alone.items()}

    def open(self, name, environment):
        return super().open(name, environment) | self.urls


class _Worker(lambda_local.Worker):
    def environment(self, root):
        given = super().environment(root)
        given |= {name.upper(): value for name, value in local.KEYS.items()}
        del given["AWS_SESSION_TOKEN"]
        return given


@contextlib.contextmanager
def costs(workers):
    """Measures what a block costs the workers; the result is filled in at its end."""
    cost = Cost(0, 0, 0)
    before = sum(worker.cpu for worker in workers)
    start = time.monotonic()
    yield cost
    cost.wall = time.monotonic() - start
    cost.cpu = sum(worker.cpu for worker in workers) - before
    cost.peak = max(worker.peak for worker in workers)
