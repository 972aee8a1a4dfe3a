"""Where users import `Worker` from; it lives in the runtime."""

from docket_runtime.worker import Worker

__all__ = ["Worker"]
