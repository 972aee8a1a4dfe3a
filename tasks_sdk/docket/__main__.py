"""`python -m docket` is `docket`."""

from __future__ import annotations

from docket.cli import main

if __name__ == "__main__":
    main()
