"""`python -m docket_supervisor` is `docket-supervise`."""

from __future__ import annotations

from docket_supervisor.main import main

if __name__ == "__main__":
    main()
