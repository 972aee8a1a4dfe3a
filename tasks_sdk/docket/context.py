"""What the code of a task finds around it: its docket, its worker, its execution."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.execution import Execution

current_docket: ContextVar[Docket] = ContextVar("docket.current_docket")
current_worker: ContextVar[Any] = ContextVar("docket.current_worker")
current_execution: ContextVar[Execution] = ContextVar("docket.current_execution")
