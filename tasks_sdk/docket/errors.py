"""Every exception that docket itself raises, in one family."""

from __future__ import annotations

from datetime import datetime


class DocketError(Exception):
    """Something docket could not do; every error of ours can be caught by this name."""


class BadURL(DocketError, ValueError):
    """The URL cannot name a Redis; nothing was tried."""


class ConnectionFailed(DocketError, ConnectionError):
    """Redis could not be reached, or the connection broke and a second try failed too.

    Whether the operation took place is unknown when the connection broke half-way. `add` with a key may simply be
    called again: the key keeps it from being scheduled twice.
    """


class AuthenticationFailed(DocketError, ConnectionError):
    """Redis answered and refused the user name or the password; nothing was done."""


class PartitionsDiffer(DocketError, ValueError):
    """The docket is split into another number of partitions than it was opened with; nothing was done.

    Keys would be looked for in other partitions than they lie in, so that the same key could be scheduled twice.
    """


class ExecutionCancelled(DocketError):
    """The execution was cancelled (or struck), so its result will never come."""


class TaskInterrupted(BaseException):
    """Raised inside a sync task that shall end: it was cancelled, or its worker's drain is over.

    Not an `Exception`, so that a task's own `except Exception` does not keep it from ending.
    """


class DeadLetter(DocketError):
    """The execution was set aside with a cause, after it could not be run or kept killing its worker."""


class TaskFailed(DocketError):
    """The task raised an exception that cannot be rebuilt in this process.

    `type_name` and `message` say what it was; the remote traceback is the `__cause__`.
    """

    def __init__(self, type_name: str, message: str) -> None:
        super().__init__(type_name, message)
        self.type_name = type_name
        self.message = message

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}" if self.message else self.type_name


class RemoteTraceback(DocketError):
    """The text of a traceback as it was on the worker; found as the `__cause__` of what `get_result()` raises."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class ResultUnavailable(DocketError, LookupError):
    """There is no result and none can come: it expired, was never kept, or the key never existed."""


class ResultStorageFailed(DocketError):
    """The user's result storage could not keep a result, or not give it back; the cause is its own error."""


class CannotLoad(DocketError):
    """Stored bytes cannot be turned back into Python values in this process."""


class Untrusted(CannotLoad):
    """Stored bytes that were not even looked into: unsigned or altered where there are signing keys, or pickled where
    the serializer is JSON."""


class CannotStore(DocketError, TypeError):
    """A value cannot be turned into bytes; the message names the parameter."""


class CycleError(DocketError, ValueError):
    """Dependencies of a task wait for each other; refused when the task is registered."""


class ForcedRetry(DocketError):
    """Raised by `Retry.after` and `Retry.at` inside a task: end this attempt now and run again at `when`.

    Raised without a moment: run again at once.
    """

    def __init__(self, when: datetime | None = None) -> None:
        from docket import clock  # whose own errors stand in this module

        when = clock.now() if when is None else when
        super().__init__(when)
        self.when = when

    def __str__(self) -> str:
        return f"asked to be retried at {self.when}"


class NaiveDatetime(DocketError, TypeError, ValueError):
    """A moment without a time zone was given; nobody can tell when that is."""


class SchedulingFailed(DocketError):
    """Redis refused to store the execution, for example because something foreign lies at its key."""
