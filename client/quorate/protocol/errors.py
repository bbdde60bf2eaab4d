"""Every error that Quorate raises on purpose.

    QuorateError
    ├── ValidationError        the caller's: change the input, then try again
    │   ├── InvalidTransition  a status cannot move that way
    │   ├── ProtocolViolation  an action that the contracts refuse; carries the custom error's name
    │   ├── ConfigurationError a setting is missing or contradicts another
    │   ├── DataError          content is malformed, too large, or not what its CID says
    │   └── ProgramError       a job's program cannot be run under its profile
    ├── RecoverableError       a race or the network: try again later
    │   ├── ChainUnavailable   the RPC endpoint does not answer
    │   ├── ContentUnavailable no provider has the content
    │   └── Busy               a port, a lock or a queue is taken
    └── UnrecoverableError     our bug, or a broken disk: stop

Subclasses live beside the code that raises them; each message says what to do next.
"""

from collections.abc import Sequence


class QuorateError(Exception):
    """Root of the tree; `exit_code` is what a command line ends with."""

    exit_code = 1


class ValidationError(QuorateError):
    """The caller's input cannot be accepted."""

    exit_code = 2


class InvalidTransition(ValidationError):
    """A status was asked to move along a line that its table does not list."""

    def __init__(self, subject: str, current: str, wanted: str, history: Sequence[str] = ()) -> None:
        self.subject, self.current, self.wanted, self.history = subject, current, wanted, tuple(history)
        path = " → ".join((*self.history, current))
        super().__init__(f"{subject} cannot go from {current} to {wanted}; it went {path}")


class ProtocolViolation(ValidationError):
    """The contracts would refuse, or have refused, this action.

    `name` is the Solidity custom error's name and `args_` its decoded arguments.
    """

    def __init__(self, name: str, *args: object, hint: str = "") -> None:
        self.name, self.args_ = name, args
        shown = f"{name}({', '.join(map(str, args))})"
        super().__init__(f"{shown}: {hint}" if hint else shown)


class ConfigurationError(ValidationError):
    """A setting is missing, unreadable, or contradicts another."""


class DataError(ValidationError):
    """Content is malformed, exceeds a limit, or does not match its CID."""


class ProgramError(ValidationError):
    """A job's program cannot run under its execution profile; the message names why."""


class RecoverableError(QuorateError):
    """Nothing is wrong with the request: a race was lost or a peer is away."""

    exit_code = 3


class ChainUnavailable(RecoverableError):
    """The RPC endpoint does not answer, or answers for another chain."""


class ContentUnavailable(RecoverableError):
    """No provider served the content that was asked for."""


class Busy(RecoverableError):
    """A port, a lock or a queue is taken."""


class UnrecoverableError(QuorateError):
    """An invariant of ours is broken; going on would risk money or results."""

    exit_code = 70
