"""One DVC stage as one Prefect task: run by ``dvc repro --single-item`` in a process of its own, or `Cached`.

The stage's JSON progress lines become a progress artifact, its report a markdown artifact, its failure an error of our
own, so that Prefect retries what may pass and nothing else. Knows nothing of what a stage computes.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from prefect import get_run_logger, task
from prefect.client.schemas.objects import State
from prefect.states import Completed

from captioner import errors
from captioner.errors import BadEnvironment, CaptionerError
from flows.graph import Stage, busy, patiently
from flows.patience import PATIENT
from flows.reports import Bar, publish

HINTS = ("To track the changes with git", "\tgit add ", "To enable auto staging", "\tdvc config ", "Use `dvc push`")
RESTORED = "is cached - skipping run"  # DVC's words when it has the outs of exactly these inputs from an earlier run
UNCHANGED = "didn't change, skipping"
BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")  # DVC's words when another DVC is at work
LOOK_S = 1.0  # how long a signal may have to wait
CHUNK = 1 << 16


@task(task_run_name="{stage.name}", **PATIENT)
def dvc_stage(stage: Stage, root: Path, stale: bool, force: bool = False) -> State[None]:
    """Bring `stage` up to date. An up-to-date one ends as `Cached` at once."""
    if not stale and not force:
        return Completed(name="Cached", message=f"{stage.name} is up to date: DVC has it.")
    log = get_run_logger()
    with Bar(stage, log.info) as bar:
        told = patiently(lambda: repro(stage.name, root, force, log.info, bar.show), log.info)
    publish(stage, root)
    if any(UNCHANGED in line for line in told):
        return Completed(name="Cached", message=f"{stage.name} is up to date: DVC has it.")
    if any(RESTORED in line for line in told):
        return Completed(name="Cached", message=f"{stage.name} was run before on the same inputs: DVC restored it.")
    return Completed(message=f"{stage.name} ran.")


def repro(
    stage: str,
    root: Path,
    force: bool,
    say: Callable[[str], None],
    progress: Callable[[dict[str, Any]], None],
) -> list[str]:
    """Run one stage through DVC and return its last lines.

    Raises what the stage raised, WorkspaceBusy when another DVC process is at work, BadEnvironment for other failures.

    Whatever ends this call early (a cancelled run, Ctrl-C) ends the stage first, in the way Ctrl-C would.
    """
    command = [sys.executable, "-m", "dvc", "repro", "--single-item", *(["--force"] if force else []), stage]
    child = subprocess.Popen(
        command,
        cwd=root,
        env=stage_environment(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,  # so that the whole of it can be ended
    )
    told: deque[str] = deque(maxlen=20)
    fault: CaptionerError | None = None
    try:
        assert child.stdout is not None
        for line in lines_of(child.stdout):
            message = _parse(line)
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                fault = stage_error(message["error"])
            elif line.strip() and not line.startswith(HINTS):
                told.append(line.strip())
                say(line.rstrip())
        code = child.wait()
    finally:
        _end(child)
    if code == 0:
        return list(told)
    if fault is not None:
        raise fault
    if any(words in line for words in BUSY for line in told):
        raise busy("\n".join(told))
    raise BadEnvironment(f"The stage {stage} failed (exit code {code}): {told[-1] if told else 'it wrote nothing'}")


def lines_of(pipe: IO[bytes]) -> Iterator[str]:
    """The lines that come through `pipe`, each as soon as it is whole, until its other end is closed.

    Python handles a signal between two of its own steps. One that comes just before a read that waits for long would be
    handled after it: so no read here waits for longer than `LOOK_S`.
    """
    text = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")("replace"), translate=True)
    begun = ""
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while True:
            if not selector.select(LOOK_S):
                continue
            read = os.read(pipe.fileno(), CHUNK)
            *whole, begun = (begun + text.decode(read, final=not read)).split("\n")
            yield from whole
            if not read:
                break
    if begun:
        yield begun


def stage_environment(base: Any) -> dict[str, str]:
    """A stage's environment: progress as JSON lines, and this interpreter's commands found first."""
    return {
        **base,
        "CAPTIONER_PROGRESS": "json",
        "DVC_NO_ANALYTICS": "1",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
    }


def _parse(line: str) -> dict[str, Any]:
    if not line.startswith("{"):
        return {}
    try:
        message = json.loads(line)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def stage_error(fault: dict[str, Any]) -> CaptionerError:
    """The error that the stage raised in its own process, by its name."""
    kind = getattr(errors, str(fault.get("type")), CaptionerError)
    if not (isinstance(kind, type) and issubclass(kind, CaptionerError)):
        kind = CaptionerError
    return kind(str(fault.get("message")))


def _end(child: subprocess.Popen[bytes]) -> None:
    """End `child` and its children if they still run: as Ctrl-C does, then harder."""
    for how, patience_s in ((signal.SIGINT, 10.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, how)
            child.wait(timeout=patience_s)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
