"""The exceptions a caller may catch, each with the exit code that the command line ends with.

Every message is one line that names the file, field or pair, the value, the rule, and what to do.
"""

import re
from collections.abc import Mapping

# What moves the cursor, starts a command to the terminal, or turns the direction of the text around it.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_LONGEST_REASON = 200


class SegTransferError(Exception):
    """Base of all errors that the user can fix. Exit code 1."""

    exit_code = 1


class ConfigError(SegTransferError):
    """A study, manifest, schedule or model config breaks a rule. Exit code 3."""

    exit_code = 3


class DataError(SegTransferError):
    """An image or label file is missing, unreadable, or holds what the manifest does not allow. Exit code 4."""

    exit_code = 4


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
    """Some items failed, every other one was finished and kept. Exit code 8, or the code that all reasons share.

    ``reasons``: why, by the item as messages name it.
    """

    exit_code = 8

    def __init__(self, message: str, exit_code: int | None = None, reasons: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code or self.exit_code
        self.reasons = dict(reasons or {})


class TrainingError(SegTransferError):
    """A training cannot continue: its loss is not finite, or its batch cannot be shared. Exit code 9."""

    exit_code = 9


class ComputationError(SegTransferError):
    """Memory ran out, a number is not finite, or a network, metric or library failed in its own way. Exit code 10."""

    exit_code = 10


def failure_with_code(reason: str, exit_code: int) -> SegTransferError:
    """A failure that another process reported."""
    failure = SegTransferError(reason)
    failure.exit_code = exit_code
    return failure


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the machine or a device ran out of memory; some libraries say so only in the message."""
    named = {kind.__name__ for kind in type(error).__mro__}
    return bool(named & {"MemoryError", "OutOfMemoryError"}) or "DefaultCPUAllocator" in str(error)


def as_failure(error: BaseException) -> SegTransferError:
    """The reason why one item of many failed, in one line, for any exception; without frames, which hold its tensors.

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
    """The text of another library's exception, for the parentheses of a message: one short line."""
    text = str(error).strip()
    if "Original Traceback" in text:  # of another process, in front of what it says
        text = text.splitlines()[-1]
    return " ".join(text.split())[:_LONGEST_REASON] or type(error).__name__


def printable(text: str) -> str:
    r"""A line with control characters as escapes: text from outside must not command the terminal that shows it.

    >>> printable("cat\x1b[2J")
    'cat\\x1b[2J'
    """
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)
