"""How fast and how frugal docket is: measured beside pydocket and beside a bare consumer, in the same run."""
