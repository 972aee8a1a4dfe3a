"""How patient the service under test is: short enough for a drill, and known to whoever judges it."""

from __future__ import annotations

LEASE = 5.0
PLACES = 10
DRAIN = 5.0
HANG_TIMEOUT = 10.0
"""Of the drill in which loops hang; elsewhere a frozen worker is to wake up, so nobody is killed for silence."""

LEFT_BY = DRAIN + 3.0
"""Seconds after the death of their supervisor by which its workers are gone."""

BOOTED_BY = 60.0
SETTLED_IN = 1.0
"""Seconds that a service which has just started is given: its workers become ready one after another."""
