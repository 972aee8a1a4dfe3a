"""What was accepted before a USR2 is waited for after it, and not ordered again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from docket_supervisor.control import Accepted
from docket_supervisor.phases import Event, Phase
from docket_supervisor.verbs import Service, Verbs


class Told:
    """A service that writes down what it is ordered to do."""

    def __init__(self) -> None:
        self.phase = Phase.RUNNING
        self.events: list[Event] = []
        self.sizes: list[int] = []
        self.crew = SimpleNamespace(wanted=3, complete=False, claims_nothing=False, nobody_is_quiet=False)
        self.sizing = SimpleNamespace(scale=self.scale)
        self.happened = self.events.append

    def scale(self, wanted: int) -> str:
        self.sizes.append(wanted)
        return ""


@pytest.mark.parametrize(
    ("request_", "done"),
    [
        ({"verb": "quiet"}, "claims_nothing"),
        ({"verb": "resume"}, "nobody_is_quiet"),
        ({"verb": "scale", "to": 3}, "complete"),
    ],
    ids=["quiet", "resume", "scale"],
)
def test_what_was_accepted_is_waited_for_and_not_ordered_again(request_: dict[str, Any], done: str) -> None:
    told = Told()
    verbs = Verbs(cast("Service", told))
    answers = [verbs.obey(request_)]
    ordered = [*told.events, *told.sizes]
    answers.append(verbs.go_on(request_))
    assert len(ordered) == 1 and [*told.events, *told.sizes] == ordered
    for finished, outcome in ((False, None), (True, "")):
        setattr(told.crew, done, finished)
        assert [answer.done() for answer in answers if isinstance(answer, Accepted)] == [outcome, outcome]
    told.phase = Phase.DRAINING
    assert [answer.done() for answer in answers if isinstance(answer, Accepted)] == [
        "the service is draining"
    ] * 2


def test_what_is_only_looked_at_is_looked_at_again() -> None:
    told = Told()
    verbs = Verbs(cast("Service", told))
    verbs.go_on({"verb": "stacks"})
    assert told.events == [Event.USR1]
