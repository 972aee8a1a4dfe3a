"""What makes a parameter's default a request for something."""

from __future__ import annotations


class Dependency:
    """A statement in a task's signature: what its parameter shall receive, or how the task shall be treated.

    `single`: at most one of this class (or a subclass) per task.
    """

    single: bool = False
