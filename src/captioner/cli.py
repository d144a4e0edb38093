"""``captioner VERB``: parses, dispatches, and turns errors into one sentence and an exit code.

Every handler imports what it needs when it runs, so that ``captioner --help`` costs nothing. Exit codes: 0 done,
1 a gate said no, 2 bad input or environment, 130 interrupted.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from captioner import __version__
from captioner.commands import api, demo, deploy, experiment, image, local, package, release, web
from captioner.commands.adding import as_json
from captioner.commands.reasons import cause_of, with_reason
from captioner.commands.showing import show
from captioner.errors import BadEnvironment, BadInput, CaptionerError

STAGE_VERBS = {
    "acquire": "bring the dataset into data/raw",
    "validate": "check it with Great Expectations, bad rows to quarantine",
    "features": "CNN features of every image, from the feature store where it has them",
    "train": "train one candidate's decoder on the features",
    "export": "one artifact from image bytes to caption",
    "evaluate": "caption the test split with the artifact and score it",
    "register": "put the candidates into the MLflow registry, through the gate",
    "ship": "make an evaluated candidate the model that comes with the code (models/shipped)",
}
FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code."""
    options = parser().parse_args(argv)
    try:
        return int(options.handler(options) or 0)
    except CaptionerError as error:
        return _fail(error)
    except KeyboardInterrupt:
        print("captioner: interrupted; the same command goes on from where it was.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader (head, less) has gone; that is its right.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        return _fail(BadEnvironment(f"{error.filename or 'The disk'} cannot be written: {error.strerror}."))


def _fail(error: CaptionerError) -> int:
    if os.environ.get("CAPTIONER_PROGRESS") == "json":
        fault = {"type": type(error).__name__, "message": str(error), "transient": error.transient}
        print(json.dumps({"error": fault}), file=sys.stderr)
    else:
        print(f"captioner: {error}", file=sys.stderr)
    return error.exit_code


def parser() -> argparse.ArgumentParser:
    """All verbs and their options."""
    top = argparse.ArgumentParser(prog="captioner", description="Tell me about the image.")
    top.add_argument("--version", action="version", version=f"captioner {__version__}")
    verbs = top.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, handler: Any, text: str, group: Any = None) -> argparse.ArgumentParser:
        one: argparse.ArgumentParser = (group or verbs).add_parser(
            name, help=text, description=text[0].upper() + text[1:] + "."
        )
        one.set_defaults(handler=handler)
        return one

    run = verb("run", _run, "run the whole training flow: every stale stage, then register and deploy")
    run.add_argument("--no-release", action="store_true", help="stop before register and deploy")
    run.add_argument("--force", action="store_true", help="run every stage, stale or not")

    for name, text in STAGE_VERBS.items():
        stage = as_json(verb(name, _stage, text))
        stage.set_defaults(stage=name, candidate=None)
        if name in ("train", "export", "evaluate", "ship"):
            stage.add_argument("candidate", help="a name from params.yaml's candidates")
        if name == "register":
            with_reason(stage)

    caption = verb("caption", _caption, "caption images: files, folders or URLs")
    caption.add_argument("images", nargs="*", metavar="IMAGE|FOLDER|URL")
    caption.add_argument("--json", action="store_true", help="one JSON object a line")
    caption.add_argument(
        "--model",
        default=None,
        help="shipped, champion, challenger, a models:/ URI or a model.tar.gz (default: the champion, or while the "
        "registry has none of a real dataset, the shipped model)",
    )
    caption.add_argument("--beam", type=int, default=None, help="beam width (default: the model's own)")
    caption.add_argument("--top", type=int, default=None, help="how many captions (default: the model's own)")
    caption.add_argument(
        "--explain",
        nargs="?",
        const="",
        metavar="OUT",
        help="draw where the network looked for each word: OUT.png, or a folder for several images "
        "(default: NAME-explained.png, explained/)",
    )

    image.add_image(verb, deploy.add(verb))
    local.add(verb)
    package.add(verb)
    api.add(verb)
    experiment.add(verb)
    web.add(verb)
    demo.add(verb)
    release.add(verb)

    profile = verb("profile", None, "choose what params.yaml holds")
    profiles = profile.add_subparsers(metavar="ACTION", required=True)
    use = verb("use", _profile_use, "put profiles/NAME.yaml into params.yaml and show the difference", profiles)
    use.add_argument("name")

    data = verb("data", None, "send the data to the DVC remote, or fetch it")
    actions = data.add_subparsers(metavar="ACTION", required=True)
    for action, text in (("push", "send what dvc.lock names"), ("pull", "fetch what dvc.lock names")):
        as_json(verb(action, _data, text, actions)).set_defaults(action=action)

    serve = verb("serve", _serve, "serve one model by SageMaker's container contract")
    serve.add_argument("--model-dir", type=Path, default=Path("/opt/ml/model"))
    serve.add_argument("--host", default="0.0.0.0")
    serve.add_argument("--port", type=int, default=8080)
    return top


def _stage(options: argparse.Namespace) -> None:
    from captioner.bootstrap import run_stage

    # Whoever ends a stage politely (a service manager, `kill`) gets what Ctrl-C gets: runs ended, nothing half-written.
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    cause = cause_of(options) if "reason" in options else None
    show(run_stage(options.stage, options.candidate, cause=cause), options.json)


def _run(options: argparse.Namespace) -> int:
    from captioner import stack
    from captioner.bootstrap import open_app

    app = open_app()
    code = stack.run_flow(app.settings, app.paths, release=not options.no_release, force=options.force)
    if code == 0 and not options.no_release:
        from captioner.showcase import showcase

        print(showcase(app))
    return code


def _caption(options: argparse.Namespace) -> int:
    from captioner.bootstrap import open_app
    from captioner.captioning import caption_all

    images, explain = options.images, options.explain
    if explain and not images:
        images, explain = [explain], ""  # `--explain photo.jpg`: what follows it is the image
    if not images:
        raise BadInput("There is nothing to caption: name an image, a folder or a URL.")
    return caption_all(open_app(), images, options.model, options.beam, options.top, options.json, explain)


def _profile_use(options: argparse.Namespace) -> None:
    from captioner import profiles
    from captioner.paths import Paths
    from captioner.settings import Settings

    root = Path.cwd()
    print(profiles.use(Paths.of(root, Settings.from_env(root)), options.name))


def _data(options: argparse.Namespace) -> None:
    from captioner.bootstrap import move_data

    show(move_data(options.action), options.json)


def _serve(options: argparse.Namespace) -> int:
    from captioner import serve

    if not 0 <= options.port < 65536:
        raise BadInput(f"{options.port} is not a port.")
    return serve.main(options.model_dir, options.host, options.port)
