"""`up`, `down` and `status` of the local stack.

What is up is written in ``services.json`` (url, pid, start time, log) the moment it is started, so that an interrupted
`up` leaves nothing that `down` does not find. One `up` or `down` at a time; state on disk survives both.
"""

from __future__ import annotations

import fcntl
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from captioner.errors import BadData, BadEnvironment
from captioner.paths import Paths
from captioner.records import read_json, write_json
from captioner.settings import Settings
from captioner.stack import processes, services
from captioner.stack.services import Service

START_TIMEOUT_S = 180.0  # MLflow's first start took 58 s on a busy machine, Prefect's 40 s
PATIENCE_S = 30.0  # while training has all cores a server may be slow; to restart it would break the run
STEP_S = 0.1
ADDRESS_IN_USE = "address already in use"


@dataclass(frozen=True)
class ServiceStatus:
    """One service as it is now. `pid` is None when it does not run."""

    url: str
    healthy: bool
    pid: int | None
    log: str
    detail: str = ""


@dataclass(frozen=True)
class StackStatus:
    """All services as they are now, and what the call changed."""

    services: dict[str, ServiceStatus]
    started: tuple[str, ...] = ()
    stopped: tuple[str, ...] = ()

    def render(self) -> str:
        """For people."""
        lines = []
        for name, one in self.services.items():
            state = "up" if one.healthy else "DOWN"
            what = "started" if name in self.started else state
            lines.append(f"{name:<12} {what:<8} {one.url}" + (f"  {one.detail}, see {one.log}" if one.detail else ""))
        if self.stopped:
            lines.append(f"stopped: {', '.join(self.stopped)}")
        elif not self.services:
            lines.append("nothing is up")
        elif not self.started and all(one.healthy for one in self.services.values()):
            lines.append("already up")
        return "\n".join(lines)


def up(
    settings: Settings, paths: Paths, wanted: Sequence[Service] | None = None, patience_s: float = PATIENCE_S
) -> StackStatus:
    """Start what is not up, all at once, and wait until everything answers. What is up already is left alone.

    `wanted` is what these settings ask for unless it is given. A service that runs and does not answer for
    `patience_s` is started again. Raises BadEnvironment, with the log's last line, when a service does not start.
    """
    with _alone(paths):
        entries = _read(paths)
        healthy = _healthy(entries, patience_s)
        missing = [one for one in wanted or services.wanted(settings, paths) if not healthy.get(one.name)]
        _stop([one.name for one in missing], paths, entries)
        _start(missing, paths, entries)
        return StackStatus(_report(entries), started=tuple(one.name for one in missing))


def down(settings: Settings, paths: Paths) -> StackStatus:
    """Stop everything that `up` started, in this project, and all that those processes started. State stays."""
    with _alone(paths):
        entries = _read(paths)
        # What writes goes before what it writes to: flows and the API first, then the servers.
        writers = _stop(["deployments", "web", "api"], paths, entries)
        return StackStatus({}, stopped=(*writers, *_stop({"aws", "mlflow", "prefect", *entries}, paths, entries)))


def status(settings: Settings, paths: Paths) -> dict[str, dict[str, Any]]:
    """``{NAME: {"url", "healthy", "pid", "log", "detail"}}`` of the services that were started and not stopped."""
    return {name: asdict(one) for name, one in _report(_read(paths)).items()}


@contextmanager
def _alone(paths: Paths) -> Iterator[None]:
    """One `up` or `down` at a time; the second waits for the first."""
    try:
        paths.home.mkdir(parents=True, exist_ok=True)
        lock = (paths.home / "stack.lock").open("a+")
    except OSError as error:
        raise BadEnvironment(f"{paths.home} cannot be written: {error.strerror or error}.") from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _read(paths: Paths) -> dict[str, dict[str, Any]]:
    try:
        entries = read_json(paths.services)
    except BadData:
        return {}  # not there yet, or cut short by a full disk: the processes are found by their mark
    return entries if isinstance(entries, dict) else {}


def _mark(name: str, paths: Paths) -> str:
    return f"{paths.home}:{name}"


def _stop(names: Collection[str], paths: Paths, entries: dict[str, dict[str, Any]]) -> list[str]:
    """Stop these services with all their descendants and forget them. Returns the names of those that ran.

    A service is asked first and ends its own children in its own order; what is left then is stopped one by one.
    """
    marks = {_mark(name, paths): name for name in names}
    found = processes.marked(marks)
    if found:
        recorded = [processes.find(entries[name]["pid"], entries[name]["started"]) for name in names if name in entries]
        processes.stop([one for one in recorded if one is not None], grace_s=15.0)
        for _ in range(3):  # again for what was born while the others ended
            left = [one for several in processes.marked(marks).values() for one in several]
            processes.stop(left, grace_s=3.0)
    if entries.keys() & set(names):
        for name in names:
            entries.pop(name, None)
        write_json(paths.services, entries)
    return [marks[mark] for mark in found]


def _start(missing: Sequence[Service], paths: Paths, entries: dict[str, dict[str, Any]]) -> None:
    """Start `missing`, each as soon as what it comes after is healthy, and wait for all of them."""
    waiting = list(missing)
    pending: list[Service] = []
    faults: list[BadEnvironment] = []
    deadline = time.monotonic() + START_TIMEOUT_S
    while waiting or pending:
        unfinished = {one.name for one in (*waiting, *pending)}
        for one in [one for one in waiting if not unfinished & set(one.after)]:
            waiting.remove(one)
            if set(one.after) <= entries.keys():  # else what it needs did not come up
                pending.append(one)
                _launch(one, paths, entries)
        for one in list(pending):
            try:
                if _came_up(one, paths, entries, deadline):
                    pending.remove(one)
            except BadEnvironment as fault:
                # The others come up all the same: the next `up` has less to do.
                faults.append(fault)
                pending.remove(one)
        if pending:
            time.sleep(STEP_S)
    if faults:
        raise faults[0]


def _launch(one: Service, paths: Paths, entries: dict[str, dict[str, Any]], first_port: int | None = None) -> None:
    """Start `one` and write down that it was."""
    taken = [entry["port"] for entry in entries.values()]
    port = processes.free_port(first_port or one.first_port, taken)
    log = paths.logs / f"{one.name}.log"
    before = processes.size(log)
    for folder in (paths.mlflow / "artifacts", paths.prefect, paths.aws):
        folder.mkdir(parents=True, exist_ok=True)
    urls = {name: str(entry["url"]) for name, entry in entries.items()}
    env = services.base_environment(paths) | dict(one.env(port, urls))
    child = processes.start(one.command(port), env, paths.root, log, _mark(one.name, paths))
    url = f"http://{processes.HOST}:{port}"
    entries[one.name] = {
        "url": url,
        "port": port,
        "health": url + one.health,
        "pid": child.pid,
        "started": child.create_time(),
        "log": str(log),
        "log_from": before,
    }
    write_json(paths.services, entries)


def _came_up(one: Service, paths: Paths, entries: dict[str, dict[str, Any]], deadline: float) -> bool:
    """Is it healthy by now? Raises BadEnvironment when it died or took too long."""
    entry = entries[one.name]
    log = Path(entry["log"])
    process = processes.find(entry["pid"], entry["started"])
    if process is not None and _answers(entry["health"]):
        family = processes.marked([_mark(one.name, paths)])
        return processes.listens((one for several in family.values() for one in several), entry["port"])
    if process is not None and time.monotonic() < deadline:
        return False
    words = processes.last_words(log, entry["log_from"])
    _stop([one.name], paths, entries)
    if process is None and processes.said(log, entry["log_from"], ADDRESS_IN_USE):
        # Somebody took the port between our look at it and the service's: the next one, then.
        _launch(one, paths, entries, first_port=entry["port"] + 1)
        return False
    what = "ended at once" if process is None else f"did not answer within {START_TIMEOUT_S:.0f} s"
    raise BadEnvironment(f"The service {one.name} {what}: {words or 'it wrote nothing'} (log: {log}).")


def prefect_api(settings: Settings, paths: Paths) -> str | None:
    """The Prefect API: the one that the setting names, or the local server's; None when there is neither."""
    if settings.prefect_api:
        return settings.prefect_api
    entry = _read(paths).get("prefect")
    return f"{entry['url']}/api" if entry else None


def _healthy(entries: dict[str, dict[str, Any]], patience_s: float = 0.0) -> dict[str, bool]:
    """Which services run and answer, asked all at once; one that runs is asked again for `patience_s`."""
    if not entries:
        return {}
    with ThreadPoolExecutor(len(entries)) as pool:
        return dict(zip(entries, pool.map(lambda one: _is_healthy(one, patience_s), entries.values()), strict=True))


def _is_healthy(entry: dict[str, Any], patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while processes.find(entry["pid"], entry["started"]) is not None:
        if _answers(entry["health"]):
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(STEP_S)
    return False


def _answers(url: str, timeout_s: float = 3.0) -> bool:
    # No proxy, whatever the environment says: it is this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _report(entries: dict[str, dict[str, Any]]) -> dict[str, ServiceStatus]:
    healthy = _healthy(entries)
    found = {}
    for name, entry in entries.items():
        running = processes.find(entry["pid"], entry["started"]) is not None
        detail = "" if healthy[name] else "does not answer" if running else "has ended"
        pid = entry["pid"] if running else None
        found[name] = ServiceStatus(entry["url"], healthy[name], pid, entry["log"], detail)
    return found
