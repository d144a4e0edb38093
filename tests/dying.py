"""A deployment that dies, by SIGKILL, just before one of its API calls. A zygote: one process that imports, then forks.

Reads jobs from standard input, a JSON object a line: {"die": N or null, …}; runs each in a fork of its own, and writes
{"rc": exit status or -signal, "calls": [operation, …]} as the answer. The N-th call (from 0) is the one that is never
sent; a call is counted when botocore is about to send it, retries not again.
"""

import dataclasses
import json
import os
import signal
import sys
from pathlib import Path

from captioner.adapters.aws import Account
from captioner.adapters.sagemaker import SageMakerEndpoint
from captioner.params import DeployParams
from captioner.paths import Paths
from captioner.settings import Settings
from captioner.stages import deploy
from tests.fakes import FakeRegistry


@dataclasses.dataclass(frozen=True)
class Mortal(Account):
    """An account whose clients count their calls, and end the process before the one that is `die`."""

    def client(self, service):
        # Made before the fork, once: they take longer than what is tried here.
        if service not in CLIENTS:
            CLIENTS[service] = super().client(service)
            CLIENTS[service].meta.events.register("before-call", self.before)
        return CLIENTS[service]

    def before(self, model, **_):
        if len(CALLS) == NOW.get("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        CALLS.append(model.name)
        with open(NOW["log"], "a") as log:
            log.write(f"{model.name}\n")


CLIENTS, CALLS, NOW = {}, [], {}


def job(order):
    root = Path(order["root"])
    settings = Settings.from_env(root, {"CAPTIONER_PROGRESS": "none"})
    paths = Paths.of(root, settings)
    registry = FakeRegistry()
    for number, artifact in enumerate(order["artifacts"], start=1):
        registry.create(order["name"], Path(artifact), "run", {"captioner.gate": "passed"})
        assert registry.versions[order["name"], str(number)]
    for alias, version in order["aliases"].items():
        registry.set_alias(order["name"], alias, version)
    endpoint = SageMakerEndpoint(settings, paths, Mortal(**order["account"]))
    deploy.run(DeployParams(**order["params"]), paths, registry, endpoint, order["name"])


def main():
    for line in sys.stdin:
        order = json.loads(line)
        Path(order["log"]).write_text("")
        NOW.update(order)
        for service in ("sagemaker", "sagemaker-runtime", "s3", "cloudwatch"):
            Mortal(**order["account"]).client(service)
        child = os.fork()
        if child == 0:
            code = 70
            try:
                job(order)
                code = 0
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        calls = Path(order["log"]).read_text().split()
        print(json.dumps({"rc": os.waitstatus_to_exitcode(status), "calls": calls}), flush=True)


if __name__ == "__main__":
    main()
