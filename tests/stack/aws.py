"""AWS on one machine: moto in one process, with the deployed Lambda zips run for real.

`python -m stack.aws --dir DIR [--port 0]` writes DIR/aws.json when it is ready, logs to DIR/aws.log and stops on SIGTERM.
"""

import argparse
import ipaddress
import json
import logging
import os
import re
import resource
import signal
import socket
import sys
import threading
from pathlib import Path
from urllib.parse import parse_qs

ACCOUNT = "123456789012"
REGION = "eu-west-2"
_FAILURES = re.compile(r"NOT-IMPLEMENTED|EVENT-TARGET-|OUTSIDE-LOOPBACK|SERVER-ERROR")

log = logging.getLogger("stack")


def failures(directory):
    """The lines of a server's log that must fail a test run, however green the tests are."""
    lines = (Path(directory) / "aws.log").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if _FAILURES.search(line)]


def guard_loopback():
    """Nothing here may call out: a real AWS endpoint would be reached with made-up keys."""

    def local(host):
        name = host.decode() if isinstance(host, bytes) else host
        if name in (None, "", "localhost"):
            return True
        try:
            return ipaddress.ip_address(name).is_loopback
        except ValueError:
            return False

    def guarded(function, host_of):
        def call(*args, **kwargs):
            host = host_of(*args)
            if not local(host):
                log.error("OUTSIDE-LOOPBACK %s", host)
                raise PermissionError(f"the local AWS may call no host but this one, not {host}")
            return function(*args, **kwargs)

        return call

    def peer(sock, address):
        return address[0] if sock.family in (socket.AF_INET, socket.AF_INET6) else None

    class GuardedSocket(socket.socket):
        connect = guarded(socket.socket.connect, peer)
        connect_ex = guarded(socket.socket.connect_ex, peer)

    socket.socket = GuardedSocket
    socket.getaddrinfo = guarded(socket.getaddrinfo, lambda host, *_: host)


class Gateway:
    """WSGI: our own paths, events after the request that caused them, and no 500 that a client would retry for minutes."""

    def __init__(self, app, pool, events):
        self.app, self.pool, self.events = app, pool, events

    def __call__(self, environ, start_response):
        if environ["PATH_INFO"].startswith("/_stack/"):
            return self.control(environ, start_response)

        def start(status, headers, exc_info=None):
            if status.startswith("5"):
                log.error("SERVER-ERROR %s %s %s", status, environ["REQUEST_METHOD"], environ["PATH_INFO"])
            return start_response(status, headers, exc_info)

        self.events.start_request()
        try:
            body = list(self.app(environ, start))
        except Exception as error:
            kind = "NOT-IMPLEMENTED" if isinstance(error, NotImplementedError) else "SERVER-ERROR"
            log.exception(
                "%s %s %s %s",
                kind,
                environ["REQUEST_METHOD"],
                environ["PATH_INFO"],
                environ.get("HTTP_X_AMZ_TARGET", ""),
            )
            body = [
                f"<Error><Code>NotImplemented</Code><Message>The local AWS failed: {type(error).__name__}</Message></Error>".encode()
            ]
            start_response(
                "400 Bad Request", [("Content-Type", "application/xml"), ("x-amzn-errortype", "NotImplemented")]
            )
            return body
        self.events.end_request()
        return body

    def control(self, environ, start_response):
        name = parse_qs(environ.get("QUERY_STRING", "")).get("function", [None])[0]
        actions = {
            ("POST", "/_stack/drop-workers"): lambda: {"dropped": self.pool.drop(name)},
            ("GET", "/_stack/workers"): self.pool.describe,
        }
        action = actions.get((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        if action is None:
            start_response("404 Not Found", [])
            return [b"use POST /_stack/drop-workers?function=NAME or GET /_stack/workers"]
        start_response("200 OK", [("Content-Type", "application/json")])
        return [json.dumps(action()).encode()]


def serve(directory, port):
    # moto keeps every larger object and part as an open file.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listener = socket.create_server(("127.0.0.1", port), backlog=256)
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    # moto reads these when it is imported.
    os.environ.update(
        MOTO_PORT=str(port), MOTO_ACCOUNT_ID=ACCOUNT, AWS_EC2_METADATA_DISABLED="true", AWS_DEFAULT_REGION=REGION
    )

    from moto.core.config import default_user_config
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    from . import identities, patch_cloudtrail, patch_events, patch_lambda, patch_s3, patch_states, patches, way

    time_scale = float(os.environ.get("STACK_TIME_SCALE", "1"))
    default_user_config["stepfunctions"] = {"execute_state_machine": True}
    patches.refuse_unknown_actions()
    patches.keep_the_type_of_an_updated_attribute()
    patches.answer_one_at_a_time()
    patches.send_without_counting()
    identities.apply(directory / "calls.jsonl")
    patch_s3.apply()
    patch_states.apply(url, time_scale)
    patch_events.apply(url)
    patch_cloudtrail.apply(time_scale)
    pool = patch_lambda.apply(
        directory / "lambda", way.Way(url, directory), int(os.environ.get("STACK_LAMBDA_WORKERS", "8")), ACCOUNT, REGION
    )

    class Handler(MotoRequestHandler):
        # Of more than fits, the second write would wait for the client's delayed acknowledgement.
        disable_nagle_algorithm = True
        # Headers and body arrive together. The AWS SDK for Go closes the connection between the two when they come before it has seen
        # the end of its own request, and then Terraform sends it again, which creates a role twice.
        wbufsize = 64 * 1024

        def log_request(self, *_):
            pass

    app = Gateway(DomainDispatcherApplication(create_backend_app), pool, patch_events)
    server = make_server("127.0.0.1", port, app, threaded=True, request_handler=Handler, fd=listener.fileno())
    server.daemon_threads = True

    def stop(*_):
        pool.stop()
        os._exit(0)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    ready = directory / "aws.json.new"
    ready.write_text(json.dumps({"url": url, "pid": os.getpid()}), encoding="utf-8")
    ready.rename(directory / "aws.json")
    server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--dir", type=Path, required=True, help="folder for aws.json, aws.log, calls.jsonl and unpacked functions"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    args = parser.parse_args()
    args.dir.mkdir(parents=True, exist_ok=True)
    (args.dir / "aws.json").unlink(missing_ok=True)
    logging.basicConfig(
        filename=args.dir / "aws.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    for noisy in ("werkzeug", "botocore", "moto"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    threading.excepthook = lambda args: log.error("SERVER-ERROR in thread %s", args.thread, exc_info=args.exc_value)
    sys.excepthook = lambda *error: log.critical("SERVER-ERROR the server stopped", exc_info=error)
    guard_loopback()
    serve(args.dir, args.port)


if __name__ == "__main__":
    main()
