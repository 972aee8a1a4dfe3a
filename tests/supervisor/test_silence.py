"""For how long somebody has been silent, as far as we can know."""

from __future__ import annotations

from docket_supervisor.silence import Silence


def test_silence_lasts_since_something_was_heard() -> None:
    silence = Silence()
    assert silence.lasts(100.0, 99.5) == 0.0, "we have just begun to listen"
    assert silence.lasts(101.0, 99.5) == 1.0
    assert silence.lasts(102.0, 101.75) == 0.25


def test_time_in_which_we_were_deaf_does_not_count() -> None:
    silence = Silence()
    silence.lasts(100.0, 100.0)
    assert silence.lasts(160.0, 100.0) == 0.0
    assert silence.lasts(161.0, 100.0) == 1.0
