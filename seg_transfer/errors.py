"""The exceptions a caller may catch, each with the exit code that the command line ends with.

Every message is one line that names the file, field or pair, the value, the rule, and what to do.
"""

from collections.abc import Mapping


class SegTransferError(Exception):
    """Base of every error that is the user's to mend. Exit code 1."""

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
    """A training cannot go on: its loss is no longer finite, or its batch cannot be shared. Exit code 9."""

    exit_code = 9
