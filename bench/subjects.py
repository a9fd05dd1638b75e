"""What is measured: this project's functions, and the NHS's Python client in two ways.

Every subject runs as a function behind the Lambda Runtime API, one process for each function.
"""

import contextlib
import shutil
import tempfile
import zipfile
from pathlib import Path

from . import local
from .local import BUCKET, LEASES, MACHINE, MESSAGES, MIB, NAME, OTHER, OURS, PREFIX, REGION
from .worker import BenchError, Cost, Worker, costs

ROOT = Path(__file__).resolve().parent.parent
CHUNK_SIZE = 20 * MIB
PAGE_LIMIT = 500
BATCH = 10
# Before a transfer is measured, its process has done this one.
WARM = b"warm"
EXECUTION = f"arn:aws:states:{REGION}:123456789012:execution:{NAME}-get-messages:bench"
# What Python takes is measured, not limited.
PYTHON_MEMORY = 3008


class Subject:
    """One way of doing the transfers."""

    name = ""

    def __init__(self, place):
        self.place = place

    def poller(self):
        """A fresh process that polls."""
        raise NotImplementedError

    def poll(self, worker):
        """Polls; returns what the next step needs to know of each batch."""
        raise NotImplementedError

    @contextlib.contextmanager
    def fetcher(self):
        """Gives a function that stores and acknowledges a batch, and the processes that it is done by."""
        raise NotImplementedError
        yield

    @contextlib.contextmanager
    def sender(self):
        """Gives a function that sends an object, and the processes that it is done by."""
        raise NotImplementedError
        yield

    def cold_poll(self):
        """From the spawn to the first answer."""
        with self.poller() as worker:
            self.poll(worker)
            return Cost(worker.age, worker.cpu, worker.peak)

    def warm_polls(self, count):
        """The cost of one poll of an empty mailbox."""
        with self.poller() as worker:
            self.poll(worker)
            since = local.now()
            with costs([worker]) as cost:
                for _ in range(count):
                    self.poll(worker)
            if self.place.polls(since) != count:
                raise BenchError(f"{self.name}: {count} polls listed the inbox {self.place.polls(since)} times")
            return Cost(cost.wall / count, cost.cpu / count, cost.peak)

    def drain(self):
        """Polls, stores and acknowledges until nothing is left; cold starts are included."""
        with self.poller() as polling, self.fetcher() as (fetch, fetching):
            everyone = [polling, *fetching]
            with costs(everyone) as cost:
                while batches := self.poll(polling):
                    for batch in batches:
                        fetch(batch)
            cost.cpu = sum(worker.cpu for worker in everyone)
            return cost

    def receive(self, message_id):
        """Stores and acknowledges one message, in processes that have polled and stored before."""
        with self.fetcher() as (fetch, fetching):
            fetch(self.batch(self.place.send([WARM], CHUNK_SIZE)))
            with costs(fetching) as cost:
                fetch(self.batch([message_id]))
            return cost

    def batch(self, ids):
        """What a batch of these messages looks like."""
        raise NotImplementedError

    def transmit(self, key, compress):
        """Sends one object, in a process that has sent before."""
        with self.sender() as (send, sending):
            self.place.s3.put_object(Bucket=BUCKET, Key="outbound/warm", Body=WARM, Metadata=metadata(False))
            send("outbound/warm", False)
            with self.place.party(OTHER) as party:
                for message_id in party.list_messages():
                    party.acknowledge_message(message_id)
            with costs(sending) as cost:
                send(key, compress)
            return cost


def metadata(compress):
    """How an object is to be sent."""
    return {
        "mex-from": OURS,
        "mex-to": OTHER,
        "mex-workflowid": "BENCH",
        "mex-content-compress": "yes" if compress else "no",
    }


class Ours(Subject):
    """This project's release binaries, with the settings and the memory that the module gives them."""

    name = "ours"
    memory = {"poll": 128, "fetch-chunk": 256, "ack": 128, "send": 256}

    def __init__(self, place, zips, **settings):
        super().__init__(place)
        self.settings = settings
        self.folder = Path(tempfile.mkdtemp(dir=place.folder))
        self.sizes = {}
        for package in self.memory:
            # A copy: a build may replace the zips while this runs.
            zipped = Path(shutil.copy(zips / f"{package}.zip", self.folder))
            with zipfile.ZipFile(zipped) as archive:
                binary = Path(archive.extract("bootstrap", self.folder / package))
            binary.chmod(0o755)
            self.sizes[package] = {"zip": zipped.stat().st_size, "binary": binary.stat().st_size}

    @staticmethod
    def environment(mesh_url):
        """What the functions are told: the defaults of the module's variables."""
        return {
            "LOG_LEVEL": "INFO",
            "MESH_URL": mesh_url,
            "MESSAGES_TABLE": MESSAGES,
            "ROW_RETENTION_DAYS": "400",
            "SECRETS_PREFIX": PREFIX,
            "SECRETS_SOURCE": "parameter-store",
            "VERIFY_CHECKS_COMMON_NAME": "true",
            "VERIFY_SSL": "true",
            "LEASES_TABLE": LEASES,
            "MAX_ATTEMPTS": "5",
            "MAX_MESSAGE_SIZE": str(100 * 10**9),
            "BUCKET": BUCKET,
            "BUCKET_ARN": f"arn:aws:s3:::{BUCKET}",
            "EVENT_SOURCE": "mesh-client",
            "FETCH_BATCH_SIZE": str(BATCH),
            "PAGE_LIMIT": str(PAGE_LIMIT),
            "ACCEPT_ENCODING": "gzip",
            "IN_ORDER": "true",
            "USE_LEGACY_INBOUND_LOCATION": "false",
            "USE_SENDER_FILENAME": "false",
            "CHUNK_SIZE": str(CHUNK_SIZE),
            "COMPRESS_THRESHOLD": str(CHUNK_SIZE),
            "COMPRESSION_LEVEL": "6",
            "NEVER_COMPRESS": "false",
            "ON_UNCERTAIN_SEND": "hold",
            "SEND_COPIED_OBJECTS": "false",
            "SET_LOCAL_ID": "true",
            "UNCERTAIN_SEND_WAIT_SECONDS": "300",
            "USE_S3_KEY_FOR_MEX_FILENAME": "false",
        }

    def start(self, package):
        """A process of the function."""
        environment = self.environment(self.place.mesh_url) | self.settings
        return Worker(f"{NAME}-{package}", self.folder / package, environment, self.memory[package], self.place)

    def call(self, worker, request):
        """A task's answer."""
        return worker.invoke({"execution": EXECUTION, "request": request})

    def poller(self):
        return self.start("poll")

    def poll(self, worker):
        return self.call(worker, {"mailbox": OURS})["body"]["batches"]

    def batch(self, ids):
        return {"mailbox": OURS, "messages": [{"message_id": message_id} for message_id in ids]}

    @contextlib.contextmanager
    def fetcher(self):
        with self.start("fetch-chunk") as fetching, self.start("ack") as acknowledging:

            def fetch(batch):
                work = batch | {"rounds": 100}
                while work["messages"]:
                    work = self.call(fetching, work)
                    if failed := work["result"]["failed"]:
                        raise BenchError(f"ours did not store {failed}")
                    self.call(acknowledging, {"mailbox": OURS, "stored": work["stored"]})

            yield fetch, [fetching, acknowledging]

    @contextlib.contextmanager
    def sender(self):
        with self.start("send") as sending:

            def send(key, _compress):
                detail = {"version": "0", "bucket": {"name": BUCKET}, "object": {"key": key}, "reason": "PutObject"}
                work = {"detail-type": "Object Created", "source": "aws.s3", "time": put_time(), "detail": detail}
                while not work.get("complete"):
                    work = self.call(sending, work)
                    if work.get("wait_seconds") or work.get("outcome"):
                        raise BenchError(f"ours did not send {key}: {work}")

            yield send, [sending]


def put_time():
    """The time of an event."""
    return local.now().replace("+00:00", "Z")


class Python(Subject):
    """A handler of bench/peer on AWS's own runtime for Python."""

    module = ""

    def start(self, function):
        """A process of the function."""
        environment = {
            "MESH_URL": self.place.mesh_url,
            "BUCKET": BUCKET,
            "LEASES_TABLE": LEASES,
            "SECRETS_PREFIX": PREFIX,
            "GET_MESSAGES_ARN": MACHINE,
            "PAGE_LIMIT": str(PAGE_LIMIT),
            "CHUNK_SIZE": str(CHUNK_SIZE),
            # mesh-client tells of its older versions at each import.
            "PYTHONWARNINGS": "ignore",
        }
        folder = ROOT / "bench" / "peer"
        name = f"{self.name}-{function}"
        return Worker(name, folder, environment, PYTHON_MEMORY, self.place, "python3.11", f"{self.module}.{function}")

    def poller(self):
        return self.start("poll")


class Streaming(Python):
    """mesh-client and boto3 as well as they allow."""

    name, module = "python", "streaming"

    def poll(self, worker):
        ids = worker.invoke({"mailbox": OURS, "execution": EXECUTION})
        return [self.batch(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]

    def batch(self, ids):
        return {"mailbox": OURS, "messages": ids}

    @contextlib.contextmanager
    def fetcher(self):
        with self.start("fetch") as worker:
            yield worker.invoke, [worker]

    @contextlib.contextmanager
    def sender(self):
        with self.start("send") as worker:
            yield (
                lambda key, compress: worker.invoke({"from": OURS, "to": OTHER, "key": key, "compress": compress}),
                [worker],
            )


class AsDeployed(Python):
    """mesh-client and boto3 in the way of the replaced module's Lambdas."""

    name, module = "python as deployed", "as_deployed"

    def poll(self, worker):
        return [self.batch([message_id]) for message_id in worker.invoke({"mailbox": OURS})]

    def batch(self, ids):
        (message_id,) = ids
        return {"mailbox": OURS, "message_id": message_id}

    @contextlib.contextmanager
    def fetcher(self):
        with self.start("fetch") as worker:
            yield lambda batch: self.until_complete(worker, batch), [worker]

    @contextlib.contextmanager
    def sender(self):
        with self.start("send") as worker:

            def send(key, compress):
                self.until_complete(worker, {"from": OURS, "to": OTHER, "key": key, "compress": compress})

            yield send, [worker]

    def until_complete(self, worker, work):
        """Invokes it until it says that it is done."""
        while not work.get("complete"):
            work = worker.invoke(work)
