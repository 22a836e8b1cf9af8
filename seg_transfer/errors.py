"""The exceptions that a caller may catch, each with the exit code of the command line.

Every message is one line that names the file, field or pair, the value, the rule, and what to do.
"""

import re
from collections.abc import Mapping

# Characters that move the cursor, start a terminal command, or change the direction of the surrounding text.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_MAX_REASON_LENGTH = 200


class SegTransferError(Exception):
    """Base class of all errors that the user can fix. Exit code 1."""

    exit_code = 1


class ConfigError(SegTransferError):
    """A study, manifest, schedule or model config breaks a rule. Exit code 3."""

    exit_code = 3


class DataError(SegTransferError):
    """An image or label file is missing, unreadable, or violates the manifest. Exit code 4."""

    exit_code = 4


class DoubtfulError(DataError):
    """Images or label maps can be read in more than one way; the message has the option for each. Exit code 4."""


class CheckpointError(SegTransferError):
    """A checkpoint is missing, unsafe to load, or does not fit its model. Exit code 5."""

    exit_code = 5


class ObservationsError(SegTransferError, ValueError):
    """Observations that no metric can score: NaN, wrong shapes, one class, fewer than two rows. Exit code 6."""

    exit_code = 6


class ResultsError(SegTransferError):
    """A result file or a run folder cannot be read or evaluated. Exit code 7."""

    exit_code = 7


class IncompleteError(SegTransferError):
    """Some items failed; all others were finished and kept. Exit code 8, or the code that all reasons share.

    Attributes:
        reasons: Name of a failed item -> the reason.
    """

    exit_code = 8

    def __init__(self, message: str, exit_code: int | None = None, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code or self.exit_code
        self.reasons = dict(reasons or {})


class TrainingError(SegTransferError):
    """A training cannot continue: its loss is not finite, or its processes cannot divide the batch. Exit code 9."""

    exit_code = 9


class ComputationError(SegTransferError):
    """Memory ran out, a number is not finite, or a network, metric or library failed in its own way. Exit code 10."""

    exit_code = 10


def failure_with_code(reason: str, exit_code: int) -> SegTransferError:
    """Create the error for a failure that another process reported."""
    failure = SegTransferError(reason)
    failure.exit_code = exit_code
    return failure


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or a device ran out of memory; some libraries reveal this only in the message."""
    named = {kind.__name__ for kind in type(error).__mro__}
    return bool(named & {"MemoryError", "OutOfMemoryError"}) or "DefaultCPUAllocator" in str(error)


def as_failure(error: BaseException) -> SegTransferError:
    """Convert any exception to the failure of an item, without its frames, which would keep tensors alive.

    >>> as_failure(ZeroDivisionError("division by zero"))
    ComputationError('ZeroDivisionError: division by zero')
    """
    if isinstance(error, SegTransferError):
        failure = error
    elif is_out_of_memory(error):
        failure = ComputationError(f"out of memory ({reason_of(error)}); use smaller images or batches, or more memory")
    else:
        name, reason = type(error).__name__, reason_of(error)
        failure = ComputationError(name if reason == name else f"{name}: {reason}")
    failure.__cause__ = failure.__context__ = None
    return failure.with_traceback(None)


def reason_of(error: BaseException) -> str:
    """Return the text of another library's exception as one short line, to be quoted in a message."""
    text = str(error).strip()
    if "Original Traceback" in text:  # the traceback of another process precedes the message
        text = text.splitlines()[-1]
    return " ".join(text.split())[:_MAX_REASON_LENGTH] or type(error).__name__


def printable(text: str) -> str:
    r"""Escape the control characters in a line, because untrusted text must not control the terminal.

    >>> printable("cat\x1b[2J")
    'cat\\x1b[2J'
    """
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
