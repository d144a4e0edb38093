"""The training flow, from top to bottom: every DVC stage that is stale, then register, then deploy.

DVC decides what must run, Prefect shows it, retries it and runs it by schedule. Run it as ``captioner run``, as
``python -m flows.training``, from the Prefect UI, or by ``captioner schedule``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, runtime

from captioner import bootstrap, stack
from captioner.errors import CaptionerError
from captioner.workspace import workspace_lock
from flows.dvc_stage import dvc_stage
from flows.graph import Stage, is_stale, patiently, read_graph
from flows.plain_errors import speak_plainly
from flows.release import deploy, register
from flows.server import require_server


@dataclass(frozen=True)
class Training:
    """What a run of the flow did."""

    ran: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    register: dict[str, Any] | None = None
    deploy: dict[str, Any] | None = None


@flow(name="training", persist_result=False)
def training(stages: list[str] | None = None, force: bool = False, release: bool = True) -> Training:
    """Bring the models up to date and release them.

    Args:
        stages: only these DVC stages and what they depend on (`train`, `train@merge`); nothing is released then.
        force: run every chosen stage, stale or not.
        release: register the candidates and deploy what the registry's aliases say.
    """
    speak_plainly()
    log = get_run_logger()
    app = bootstrap.open_app()
    root = app.paths.root
    ran: list[str] = []
    cached: list[str] = []
    touched: set[str] = set()

    def is_still_stale(stage: Stage) -> bool:
        return patiently(lambda: is_stale(root, stage.name), log.info)

    with workspace_lock(app.paths, who=f"the training flow {runtime.flow_run.name!r}", say=log.info):
        graph = patiently(lambda: read_graph(root), log.info)
        for stage in graph.select(stages):
            # What ran upstream may have written the same bytes again: then DVC has this stage already.
            stale = is_still_stale(stage) if stage.upstream & touched else stage.name in graph.stale
            state = dvc_stage(stage, root, stale, force, return_state=True)
            state.result()  # raises what the stage raised
            touched |= {stage.name} if stale or force else set()
            (cached if state.name == "Cached" else ran).append(stage.name)

        log.info(f"{len(ran)} ran ({', '.join(ran)}), {len(cached)} cached." if ran else "Nothing changed: all cached.")
        if not release or stages:
            return Training(ran, cached)
        # Registered before anybody else may change what the stages wrote. A gate that says no ends the flow here.
        registered = register()
    return Training(ran, cached, registered, deploy())


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m flows.training``. Returns the exit code: 0 done, 1 a gate said no, 2 bad input or environment."""
    parser = argparse.ArgumentParser(prog="python -m flows.training", description=__doc__)
    parser.add_argument("stages", nargs="*", help="only these stages and what they depend on; nothing is released")
    parser.add_argument("--force", action="store_true", help="run every stage, stale or not")
    parser.add_argument("--no-release", action="store_true", help="stop before register and deploy")
    options = parser.parse_args(argv)
    try:
        if "PREFECT_API_URL" not in os.environ:
            return _again_with_a_server()
        require_server()
        training(stages=options.stages or None, force=options.force, release=not options.no_release)
    except CaptionerError as error:
        print(f"captioner: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("captioner: interrupted; the same command goes on from where it was.", file=sys.stderr)
        return 130
    return 0


def _again_with_a_server() -> int:
    """Prefect reads its server's address when it is imported: find or start the server, then start again."""
    app = bootstrap.open_app()
    stack.ensure_up(app.settings, app.paths)
    return stack.run_module("flows.training", sys.argv[1:], app.settings, app.paths)


if __name__ == "__main__":
    # Prefect and the tests know the flow as flows.training, not as __main__.
    sys.path.insert(0, str(Path.cwd()))
    from flows.training import main as run

    sys.exit(run())
