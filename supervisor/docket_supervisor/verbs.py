"""What can be asked of a running supervisor, and when it refuses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from docket_supervisor.control import Accepted, Answer, Refused
from docket_supervisor.crew import Crew
from docket_supervisor.phases import ALIVE, Event, Phase, knows
from docket_supervisor.rolling import Roll
from docket_supervisor.sizing import Sizing


class Service(Protocol):
    """The supervisor, as far as it takes orders."""

    @property
    def phase(self) -> Phase: ...
    @property
    def crew(self) -> Crew: ...
    @property
    def sizing(self) -> Sizing: ...
    @property
    def roll(self) -> Roll: ...
    @property
    def dumping(self) -> bool: ...
    def happened(self, event: Event) -> None: ...
    def status(self) -> dict[str, Any]: ...
    def measured(self) -> Callable[[], str | None]: ...


class Verbs:
    """Each is a method that is named like it; what is no verb is refused like what makes no sense now."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._known: dict[str, Callable[[Mapping[str, Any]], Answer]] = {
            "status": self._status,
            "quiet": self._quiet,
            "resume": self._resume,
            "scale": self._scale,
            "reload": self._reload,
            "stacks": self._stacks,
            "stop": self._stop,
        }

    def obey(self, request: Mapping[str, Any]) -> Answer:
        verb = self._known.get(str(request.get("verb")))
        if verb is None:
            return Refused(f"expected one of {', '.join(self._known)}, got {request.get('verb')!r}")
        return verb(request)

    def go_on(self, request: Mapping[str, Any]) -> Answer:
        """The same for what the program before this one has accepted, and somebody waits for: it is not ordered again,
        for another order may have followed it."""
        match request:
            case {"verb": "quiet"}:
                return Accepted(done=self._quieted())
            case {"verb": "resume"}:
                return Accepted(done=self._resumed())
            case {"verb": "scale", "to": int(wanted)}:
                return Accepted(done=self._scaled(wanted))
            case _:
                # What is only looked at. A program is not replaced while it reloads or stops.
                return self.obey(request)

    def _status(self, request: Mapping[str, Any]) -> Answer:
        return Accepted(lambda: {"status": self._service.status()}, self._service.measured(), held=True)

    def _quiet(self, request: Mapping[str, Any]) -> Answer:
        return self._happen(Event.TSTP, self._quieted())

    def _quieted(self) -> Callable[[], str | None]:
        return self._until(lambda crew: crew.claims_nothing)

    def _resume(self, request: Mapping[str, Any]) -> Answer:
        return self._happen(Event.CONT, self._resumed())

    def _resumed(self) -> Callable[[], str | None]:
        return self._until(lambda crew: crew.nobody_is_quiet)

    def _scale(self, request: Mapping[str, Any]) -> Answer:
        wanted = request.get("to")
        if wanted == "auto":
            problem = self._service.sizing.leave_to_us()
            return Refused(problem) if problem else Accepted()
        if not isinstance(wanted, int) or isinstance(wanted, bool):
            return Refused(f"expected a number of processes, got {wanted!r}")
        if not knows(self._service.phase, Event.SCALE):
            return self._not_now()
        if problem := self._service.sizing.scale(wanted):
            return Refused(problem)
        return Accepted(done=self._scaled(wanted))

    def _scaled(self, wanted: int) -> Callable[[], str | None]:
        return self._until(lambda crew: crew.wanted != wanted or crew.complete)

    def _reload(self, request: Mapping[str, Any]) -> Answer:
        roll = self._service.roll
        ended = roll.ended

        def done() -> str | None:
            if self._service.phase not in ALIVE:
                return self._not_now().reason
            # One that went on already is followed by ours, so the last word counts.
            return roll.problem if roll.ended > ended and not roll.going else None

        return self._happen(Event.HUP, done)

    def _stacks(self, request: Mapping[str, Any]) -> Answer:
        return self._happen(Event.USR1, lambda: None if self._service.dumping else "")

    def _stop(self, request: Mapping[str, Any]) -> Answer:
        """Asked for again, it changes nothing: only signals shorten a drain."""
        if self._service.phase in ALIVE:
            self._service.happened(Event.TERM)
        # Who waits is told when the service is gone.
        return Accepted(done=lambda: None)

    def _happen(self, event: Event, done: Callable[[], str | None]) -> Answer:
        if not knows(self._service.phase, event):
            return self._not_now()
        self._service.happened(event)
        return Accepted(done=done)

    def _until(self, reached: Callable[[Crew], bool]) -> Callable[[], str | None]:
        def done() -> str | None:
            if self._service.phase not in ALIVE:
                return self._not_now().reason
            return "" if reached(self._service.crew) else None

        return done

    def _not_now(self) -> Refused:
        return Refused(f"the service is {_in_words(self._service.phase)}")


def _in_words(phase: Phase) -> str:
    return "draining" if phase is Phase.HURRYING else phase.name.lower().replace("_", ", ")
