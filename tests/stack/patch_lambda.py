"""Lambda: runs functions for real, and echoes the settings that moto drops."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

from moto.awslambda import models
from moto.awslambda.responses import LambdaResponse
from moto.logs import logs_backends
from moto.logs.models import LogsBackend

from . import lambda_local
from .patches import log

ASYNCHRONOUS_PAYLOAD_BYTES = 256 * 1024


class Logs:
    """CloudWatch Logs, as a worker's output needs it."""

    def __init__(self, account_id, region):
        self.backend = logs_backends[account_id][region]

    def open(self, group, stream):
        self.backend.ensure_log_group(group)
        self.backend.create_log_stream(group, stream)

    def write(self, group, stream, lines):
        # A function's last lines must not bring back the log group that was deleted with it.
        found = self.backend.groups.get(group)
        if found and stream in found.streams and lines:
            now = int(time.time() * 1000)
            found.streams[stream].put_log_events([{"timestamp": now, "message": line} for line in lines])


def function_of(fn):
    return lambda_local.Function(
        name=fn.function_name,
        version=str(fn.version),
        arn=fn.function_arn,
        region=fn.region,
        handler=fn.handler,
        code_sha256=fn.code_sha_256,
        environment=tuple(sorted(fn.environment_vars.items())),
        memory_size=int(fn.memory_size),
        timeout=int(fn.timeout),
        log_group=log_settings(fn)["LogGroup"],
        runtime=fn.run_time,
    )


def log_settings(fn):
    default = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{fn.function_name}"}
    return default | (getattr(fn, "logging_config", None) or {})


def echo_settings():
    init, configuration, update = (
        models.LambdaFunction.__init__,
        models.LambdaFunction.get_configuration,
        models.LambdaFunction.update_configuration,
    )

    def remember(fn, spec):
        if "DeadLetterConfig" in spec:
            fn.dead_letter_config = spec["DeadLetterConfig"]
        if "LoggingConfig" in spec:
            fn.logging_config = spec["LoggingConfig"]

    def patched_init(self, account_id, spec, region, version=1):
        init(self, account_id, spec, region, version)
        remember(self, spec)

    def get_configuration(self, on_create=False):
        config = configuration(self, on_create)
        config["LoggingConfig"] = log_settings(self)
        if getattr(self, "dead_letter_config", {}).get("TargetArn"):
            config["DeadLetterConfig"] = self.dead_letter_config
        return config

    def update_configuration(self, config_updates):
        remember(self, config_updates)
        if "TracingConfig" in config_updates:
            self.tracing_config = config_updates["TracingConfig"]
        if config_updates.get("EphemeralStorage"):
            self.ephemeral_storage = config_updates["EphemeralStorage"]["Size"]
        environment = {"Variables": {}} | (config_updates.get("Environment") or {})
        update(self, config_updates | ({"Environment": environment} if "Environment" in config_updates else {}))
        return self.get_configuration()

    models.LambdaFunction.__init__ = patched_init
    models.LambdaFunction.get_configuration = get_configuration
    models.LambdaFunction.update_configuration = update_configuration


def leave_the_logs_out_of_copies():
    """A published version is a copy of the function, with all logs of the account, while others write to them."""
    LogsBackend.__deepcopy__ = lambda self, memo: self


def apply(directory, way, workers, account_id, region):
    pool = lambda_local.Pool(directory, way, workers, Logs(account_id, region))
    asynchronous = ThreadPoolExecutor(8, "lambda")
    echo_settings()
    leave_the_logs_out_of_copies()

    def run(fn, payload):
        return pool.invoke(function_of(fn), fn.code_bytes, payload)

    def run_asynchronously(fn, payload):
        answer = run(fn, payload)
        if answer.error:
            log.warning(
                "asynchronous invocation of %s failed: %s",
                fn.function_name,
                json.loads(answer.payload).get("errorType"),
            )

    def invoke(self):
        name = unquote(self.path.rsplit("/", 2)[-2])
        fn = self.backend.get_function(name, self._get_param("Qualifier"))
        payload = self.raw_body or b"{}"
        payload = payload.encode() if isinstance(payload, str) else payload
        kind = self.headers.get("X-Amz-Invocation-Type", "RequestResponse")
        limit = ASYNCHRONOUS_PAYLOAD_BYTES if kind == "Event" else lambda_local.PAYLOAD_BYTES
        if len(payload) > limit:
            message = f"Request must be smaller than {limit} bytes for the InvokeFunction operation"
            return (
                413,
                {"status": "413", "x-amzn-errortype": "RequestTooLargeException"},
                json.dumps({"Type": "User", "message": message}),
            )
        if kind == "DryRun":
            return 204, {"status": "204"}, ""
        if kind == "Event":
            asynchronous.submit(run_asynchronously, fn, payload)
            return 202, {"status": "202"}, ""
        answer = run(fn, payload)
        headers = {"content-type": "application/json", "x-amz-executed-version": str(fn.version)}
        if answer.error:
            headers["x-amz-function-error"] = answer.error
        if self.headers.get("X-Amz-Log-Type") == "Tail":
            log.error("NOT-IMPLEMENTED the log tail of an invocation; read the log group of %s", fn.function_name)
        return 200, headers, answer.payload

    LambdaResponse.invoke = invoke

    delete = models.LambdaBackend.delete_function

    def delete_function(self, function_name, qualifier=None):
        delete(self, function_name, qualifier)
        pool.drop(function_name.rpartition(":")[2])

    models.LambdaBackend.delete_function = delete_function
    return pool
