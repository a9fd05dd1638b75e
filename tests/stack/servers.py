"""Starts and stops the servers of a stack: AWS (stack.aws), MESH (stack.mesh) and the proxy between them (stack.faults)."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
# In this order: the proxy reads where the others are.
SERVERS = ("aws", "mesh", "faults")


class StackError(Exception):
    """Something about the local stack is wrong; the text says what to do."""


def start(folder, time_scale=1, names=SERVERS):
    """Starts the servers detached; their state files are in the folder when it returns."""
    stop(folder)
    folder.mkdir(parents=True, exist_ok=True)
    processes = {}
    for name in SERVERS:
        (folder / f"{name}.json").unlink(missing_ok=True)

    def launch(name):
        with (folder / f"{name}.out").open("ab") as output:
            processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"stack.{name}", "--dir", str(folder)],
                cwd=TESTS,
                env=os.environ | {"STACK_TIME_SCALE": str(time_scale), "PYTHONWARNINGS": "ignore"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    try:
        for together in ([name for name in names if name != "faults"], [name for name in names if name == "faults"]):
            for name in together:
                launch(name)
            for name in together:
                _wait_ready(folder, name, processes[name])
    except BaseException:
        for process in processes.values():
            process.terminate()
        raise


def _wait_ready(folder, name, process, seconds=60):
    ends = time.monotonic() + seconds
    while not (folder / f"{name}.json").exists():
        if process.poll() is not None or time.monotonic() > ends:
            output = (folder / f"{name}.out").read_text(errors="replace")[-2000:]
            raise StackError(f"stack.{name} did not start within {seconds} s; it said:\n{output}")
        time.sleep(0.05)


def state(folder, name):
    """A server's state file: url and pid; None when it was not started or has been stopped."""
    try:
        found = json.loads((folder / f"{name}.json").read_text())
    except FileNotFoundError:
        return None
    return found if _is_ours(found["pid"], name, folder) else None


# A pid may have been given to another program since the file was written.
def _is_ours(pid, name, folder):
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return f"stack.{name}".encode() in arguments and str(folder).encode() in arguments


def stop(folder, seconds=20):
    """Stops the servers of the folder, and nothing else."""
    running = {name: found["pid"] for name in SERVERS if (found := state(folder, name))}
    for pid in running.values():
        os.kill(pid, signal.SIGTERM)
    ends = time.monotonic() + seconds
    for name, pid in running.items():
        while _is_ours(pid, name, folder):
            # Only the process that started it can reap it.
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(pid, os.WNOHANG) != (0, 0):
                    break
            if time.monotonic() > ends:
                os.kill(pid, signal.SIGKILL)
                ends = time.monotonic() + 5
            time.sleep(0.05)
        (folder / f"{name}.json").unlink(missing_ok=True)
