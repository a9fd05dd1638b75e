"""Step Functions: what moto's interpreter lacks, or does otherwise than AWS."""

import contextlib
import datetime
import functools
import json
import re
import threading
import time
import types
import uuid

import boto3
from botocore.config import Config
from jsonpath_ng.ext import parse
from moto.core.responses import ActionResult, EmptyResult
from moto.logs import logs_backends
from moto.logs.exceptions import ResourceAlreadyExistsException
from moto.stepfunctions.exceptions import ValidationException
from moto.stepfunctions.parser.api import ExecutionFailedEventDetails, HistoryEventType, InvalidDefinition
from moto.stepfunctions.parser.asl.component.common.error_name import error_equals_decl
from moto.stepfunctions.parser.asl.component.common.retry import retrier_decl
from moto.stepfunctions.parser.asl.component.state.exec.state_task.service import (
    state_task_service,
    state_task_service_events,
)
from moto.stepfunctions.parser.asl.component.state.wait.wait_function.wait_function import WaitFunction
from moto.stepfunctions.parser.asl.eval.environment import Environment
from moto.stepfunctions.parser.asl.eval.event.event_manager import EventManager
from moto.stepfunctions.parser.asl.eval.event.logging import CloudWatchLoggingConfiguration, CloudWatchLoggingSession
from moto.stepfunctions.parser.asl.eval.program_state import ProgramStopped
from moto.stepfunctions.parser.asl.utils import boto_client, json_path
from moto.stepfunctions.parser.asl.utils.encoding import to_json_str
from moto.stepfunctions.parser.asl.utils.json_path import NoSuchJsonPathError
from moto.stepfunctions.parser.backend import execution, execution_worker
from moto.stepfunctions.parser.models import StepFunctionsParserBackend
from moto.stepfunctions.responses import StepFunctionResponse

from .aws import REGION
from .patches import replace_everywhere

# Quotas of Step Functions: https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
HISTORY_EVENTS = 25_000
PAYLOAD_BYTES = 256 * 1024
HISTORY_PAGE = 100

_machine = threading.local()
_status = threading.RLock()
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")
_INDEFINITE = re.compile(r"\*|\.\.|\[\s*\?|\[[^\]]*[:,]")
_compiled = functools.lru_cache(maxsize=4096)(parse)


def extract_json(path, data):
    """A path that can match many things gives a list, even an empty one; any other gives the one value."""
    values = [match.value for match in _compiled(path).find(data)]
    if _INDEFINITE.search(_QUOTED.sub("", path)):
        return values
    if not values:
        raise NoSuchJsonPathError(json_path=path, data=data)
    return values[0]


class Clients:
    """One client per service and state machine: boto3's sessions are not thread safe, its clients are."""

    def __init__(self, url):
        self.url = url
        self.lock = threading.Lock()
        self.clients = {}

    def get(self, region, service, state_credentials=None):
        key = (region, service, getattr(_machine, "name", ""))
        with self.lock:
            if key not in self.clients:
                client = boto3.client(
                    service,
                    region_name=region,
                    endpoint_url=self.url,
                    aws_access_key_id=f"STATES-{key[2]}",
                    aws_secret_access_key="x",
                    config=Config(
                        parameter_validation=False,
                        retries={"total_max_attempts": 1},
                        read_timeout=1000,
                        max_pool_connections=64,
                    ),
                )
                client.meta.events.register("after-call", lambda parsed, **_: plain_times(parsed))
                self.clients[key] = client
            return self.clients[key]


def plain_times(value):
    """Step Functions' optimised integrations give seconds since 1970; moto puts an object there that JSON has no place for."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        if isinstance(item, datetime.datetime):
            value[key] = item.timestamp()
        else:
            plain_times(item)


class LogSession(CloudWatchLoggingSession):
    """Writes an execution's history to the log group of its machine, as AWS does."""

    def __init__(self, execution_arn, configuration):
        super().__init__(execution_arn, configuration)
        # The machine's executions share a stream, and moto's own set-up takes no "exists already".
        with contextlib.suppress(ResourceAlreadyExistsException):
            self._setup()

    def publish_history_log(self, history_log):
        details = history_log.get("details")
        if details and not self.configuration.include_execution_data:
            history_log["details"] = {k: v for k, v in details.items() if k != "parameters"}
        logs = logs_backends[self.configuration.log_account_id][self.configuration.log_region]
        stream = self.configuration.log_stream_name
        group = logs.groups.get(self.configuration.log_group_name)
        if group and stream in group.streams:
            group.streams[stream].put_log_events(
                [{"timestamp": int(time.time() * 1000), "message": to_json_str(history_log)}]
            )


def scale_time(scale):
    retrier_decl.time = types.SimpleNamespace(sleep=lambda seconds: time.sleep(seconds * scale))

    def wait_interval(_, env, wait_seconds):
        end = time.monotonic() + wait_seconds * scale
        while env.is_running() and (left := end - time.monotonic()) > 0:
            env.program_state_event.wait(min(left, 0.5))

    WaitFunction._wait_interval = wait_interval


def limit_history():
    """AWS fails an execution at its 25,000th event, which nothing can catch."""
    reason = ExecutionFailedEventDetails(
        error="States.Runtime", cause=f"The execution reached the maximum number of history events ({HISTORY_EVENTS})."
    )
    init, set_error, add_event = Environment.__init__, Environment.set_error, EventManager.add_event

    def patched_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.event_manager.root = self
        self.event_manager.full = False
        self.event_manager.limit = threading.Lock()

    def patched_set_error(self, error):
        set_error(self, reason if self.event_manager.full else error)

    def patched_add_event(self, context, event_type, *args, **kwargs):
        if event_type == HistoryEventType.ExecutionFailed:
            return add_event(self, context, event_type, *args, **kwargs)
        # A Map's iterations add events from threads of their own.
        with self.limit:
            if not self.full and len(self._history_event_list) < HISTORY_EVENTS - 1:
                return add_event(self, context, event_type, *args, **kwargs)
            reached, self.full = not self.full, True
        if reached:
            self.root.set_error(reason)
        return context.last_published_event_id

    Environment.__init__, Environment.set_error, EventManager.add_event = (
        patched_init,
        patched_set_error,
        patched_add_event,
    )


def limit_catch_all():
    """States.ALL matches neither of the two errors that are always the end of an execution."""
    matches = error_equals_decl.ErrorEqualsDecl._eval_body

    def eval_body(self, env):
        error = getattr(env.stack[-1], "error_name", None)
        if error in ("States.DataLimitExceeded", "States.Runtime") and error not in [
            n.error_name for n in self.error_names
        ]:
            env.stack[-1] = False
        else:
            matches(self, env)

    error_equals_decl.ErrorEqualsDecl._eval_body = eval_body


def name_fields(clients):
    """Fields of a task begin with a capital letter in a definition, whatever they are called in the service's API."""
    service = state_task_service.StateTaskService

    def operation(self, boto_service_name, service_action_name):
        client = clients.get(REGION, self._get_boto_service_name(boto_service_name))
        name = client.meta.method_to_api_mapping[self._get_boto_service_action(service_action_name)]
        return client.meta.service_model.operation_model(name)

    def parameters(self, parameters, boto_service_name=None, service_action_name=None):
        self._to_boto_request(parameters, operation(self, boto_service_name, service_action_name).input_shape)

    def response(self, response, boto_service_name=None, service_action_name=None):
        if response:
            self._from_boto_response(response, operation(self, boto_service_name, service_action_name).output_shape)

    service._normalise_parameters, service._normalise_response = parameters, response


def tasks():
    run_task = state_task_service.StateTaskService._eval_execution

    def eval_execution(self, env):
        _machine.name = env.states.context_object.context_object_data["StateMachine"]["Name"]
        run_task(self, env)

    state_task_service.StateTaskService._eval_execution = eval_execution

    failed = state_task_service_events.SfnFailedEntryCountException.__init__

    def failed_entry(self, cause):
        failed(self, cause)
        self.cause = json.dumps(cause)

    state_task_service_events.SfnFailedEntryCountException.__init__ = failed_entry


def executions():
    init = execution.Execution.__init__

    def patched_init(self, *args, **kwargs):
        init(self, *args, **kwargs)
        settings = CloudWatchLoggingConfiguration.from_logging_configuration(
            # An SDK leaves out a field that is false.
            self.state_machine.arn,
            {"includeExecutionData": False} | (self.state_machine.loggingConfiguration or {}),
        )
        if settings:
            self._cloud_watch_logging_session = LogSession(self.exec_arn, settings)

    execution.Execution.__init__ = patched_init

    terminated = execution.BaseExecutionWorkerCommunication.terminated

    def terminated_at_once(self):
        with _status:  # moto sets the status before the output
            terminated(self)

    execution.BaseExecutionWorkerCommunication.terminated = terminated_at_once

    start = StepFunctionsParserBackend.start_execution
    starting = threading.Lock()

    def start_execution(self, state_machine_arn, name=None, execution_input=None, trace_header=None):
        if len((execution_input or "").encode()) > PAYLOAD_BYTES:
            raise ValidationException(f"Value at 'input' failed to satisfy constraint: at most {PAYLOAD_BYTES} bytes")
        with starting:
            return start(self, state_machine_arn, name or str(uuid.uuid4()), execution_input, trace_header)

    StepFunctionsParserBackend.start_execution = start_execution


def stops():
    """An execution can be stopped from the moment it was started, and what it does meanwhile is no failure."""
    stop, following = execution_worker.ExecutionWorker.stop, Environment.next_state_name

    def stop_once_begun(self, *args, **kwargs):
        # moto reads the definition after it answered StartExecution, and until then has nothing to stop.
        while self.env is None or self.env.program_state() is None:
            time.sleep(0.001)
        stop(self, *args, **kwargs)

    def follow(self, name):
        with self._state_mutex:
            if not isinstance(self._program_state, ProgramStopped):
                following.fset(self, name)

    execution_worker.ExecutionWorker.stop = stop_once_begun
    Environment.next_state_name = property(following.fget, follow)


class Actions:
    """Actions that moto lacks, or answers wrongly; their names are the API's."""

    def describe_execution(self):
        with _status:
            found = self.stepfunction_backend.describe_execution(self._get_param("executionArn"))
            result = moto_describe_execution(self)
            if found.stop_date:
                result._result["stopDate"] = found.stop_date
            return result

    def get_execution_history(self):
        events = list(self.stepfunction_backend.get_execution_history(self._get_param("executionArn"))["events"])
        if self._get_param("reverseOrder"):
            events.reverse()
        first = int(self._get_param("nextToken") or 0)
        last = first + int(self._get_param("maxResults") or HISTORY_PAGE)
        more = {"nextToken": str(last)} if last < len(events) else {}
        return ActionResult({"events": events[first:last], **more})

    def validate_state_machine_definition(self):
        try:
            StepFunctionsParserBackend._validate_definition(definition=self._get_param("definition"))
        except InvalidDefinition as error:
            problem = {"severity": "ERROR", "code": "SCHEMA_VALIDATION_FAILED", "message": error.message}
            return ActionResult({"result": "FAIL", "diagnostics": [problem], "truncated": False})
        return ActionResult({"result": "OK", "diagnostics": [], "truncated": False})

    def list_state_machine_versions(self):
        machine = self.stepfunction_backend.describe_state_machine(self._get_param("stateMachineArn"))
        versions = [
            {"stateMachineVersionArn": v.arn, "creationDate": v.creation_date}
            for _, v in sorted(machine.versions.items(), reverse=True)
        ]
        return ActionResult({"stateMachineVersions": versions})

    def delete_state_machine_version(self):
        arn, _, number = self._get_param("stateMachineVersionArn").rpartition(":")
        self.stepfunction_backend.describe_state_machine(arn).versions.pop(int(number), None)
        return EmptyResult()


moto_describe_execution = StepFunctionResponse.describe_execution


def apply(url, scale):
    replace_everywhere(json_path.extract_json, extract_json)
    clients = Clients(url)
    replace_everywhere(boto_client.boto_client_for, clients.get)
    scale_time(scale)
    limit_history()
    limit_catch_all()
    name_fields(clients)
    tasks()
    executions()
    stops()
    for name, function in vars(Actions).items():
        if isinstance(function, types.FunctionType):
            setattr(StepFunctionResponse, name, function)
