"""Every error that a user can meet, and what each means at the edges.

    CaptionerError               exit 2   HTTP 500
    ├── BadInput                 exit 2   HTTP 400   what was given is wrong
    │   ├── BadImage             exit 2   HTTP 400   this picture cannot be captioned
    │   ├── BadParams            exit 2   HTTP 400   params.yaml, a setting or an option
    │   └── BadData              exit 2   HTTP 400   a dataset, a file of ours, an artifact
    ├── BadEnvironment           exit 2   HTTP 503   the machine, a tool or a file system
    │   ├── ServiceUnavailable   exit 2   HTTP 503   a server did not answer: trying again may help
    │   │   └── ModelUnavailable exit 2   HTTP 503   a variant of an endpoint did not: another one may
    │   └── WorkspaceBusy        exit 2   HTTP 503   somebody else holds the workspace
    └── GateFailed               exit 1   HTTP 409   everything worked, and the answer is no

The message is one sentence that says what is wrong and what to do about it. Errors are raised where they are
understood and translated once: into an exit code by ``cli.py``, into a status by ``serve``. Anything that is
not a ``CaptionerError`` at the edge is a bug.
"""


class CaptionerError(Exception):
    """The root of the tree: everything that we raise on purpose."""

    exit_code = 2
    http_status = 500
    transient = False


class BadInput(CaptionerError):
    """What the user gave is wrong; nothing was changed."""

    http_status = 400


class BadImage(BadInput):
    """A picture that cannot be decoded, or must not be."""


class BadParams(BadInput):
    """A value in params.yaml, in the environment or on the command line."""


class BadData(BadInput):
    """A dataset, a feature shard, a checkpoint or an artifact that is not what it should be."""


class BadEnvironment(CaptionerError):
    """The machine cannot do it: a missing tool, a full or read-only disk."""

    http_status = 503


class ServiceUnavailable(BadEnvironment):
    """A server could not be reached or failed; the same call may work later."""

    transient = True


class ModelUnavailable(ServiceUnavailable):
    """A variant of an endpoint did not answer. `again`: the same one may, in a moment."""

    def __init__(self, message: str, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


class WorkspaceBusy(BadEnvironment):
    """Another process holds the workspace."""

    transient = True


class GateFailed(CaptionerError):
    """A gate said no: the work was done, and its result was refused."""

    exit_code = 1
    http_status = 409
