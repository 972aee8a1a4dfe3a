"""What belongs to another process that is running."""

from __future__ import annotations


class Taken(Exception):
    """A pidfile or a control socket; the sentence says which and by whom. Exit code 8."""
