"""One thread that sleeps until something happens, and then asks the table what to do about it."""

from __future__ import annotations

import logging
import math
import os
import selectors
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from docket import clock
from docket.durations import describe
from docket_supervisor import titles
from docket_supervisor.channel import Channel
from docket_supervisor.child import RUN_WORKER
from docket_supervisor.codes import ExitCode
from docket_supervisor.crew import Crew
from docket_supervisor.dumps import Dumps
from docket_supervisor.estate import Estate
from docket_supervisor.forking import Closeable, become_subreaper
from docket_supervisor.handover import Handover, inheritance
from docket_supervisor.herald import Herald
from docket_supervisor.hiring import DirectHiring, Generations, Hiring, TemplateHiring
from docket_supervisor.listening import CannotListen
from docket_supervisor.messages import ImportFailed, Message
from docket_supervisor.patience import granted
from docket_supervisor.phases import ALIVE, STARTING, Action, Event, Phase, after
from docket_supervisor.premises import Premises
from docket_supervisor.publishing import PERIOD, Publisher
from docket_supervisor.reaping import farewell, reap
from docket_supervisor.recycling import Recycling
from docket_supervisor.reliefs import Reliefs
from docket_supervisor.rolling import Manner, Roll
from docket_supervisor.servers import Server, hold_server
from docket_supervisor.settings import RESERVED_SECONDS, SupervisorSettings
from docket_supervisor.signals import Signals
from docket_supervisor.sizing import Sizing
from docket_supervisor.sources import Sources
from docket_supervisor.standing import figures_of_now, standing
from docket_supervisor.status import assemble
from docket_supervisor.stewardship import RUN_STEWARD, Stewardship
from docket_supervisor.strays import Strays
from docket_supervisor.succession import Succession, listen_again
from docket_supervisor.taken import Taken
from docket_supervisor.verbs import Verbs
from docket_supervisor.vigil import Vigil
from docket_supervisor.watching import Watch, enumerated

logger = logging.getLogger("docket.supervisor")

_EVENTS = {
    signal.SIGTERM: Event.TERM,
    signal.SIGINT: Event.INT,
    signal.SIGQUIT: Event.QUIT,
    signal.SIGTSTP: Event.TSTP,
    signal.SIGCONT: Event.CONT,
    signal.SIGTTIN: Event.TTIN,
    signal.SIGTTOU: Event.TTOU,
    signal.SIGUSR1: Event.USR1,
    signal.SIGHUP: Event.HUP,
    signal.SIGUSR2: Event.USR2,
}


class Supervisor:
    """Composition and the loop. Workers and the steward are judged by parts of their own; when the service starts,
    drains and ends is decided by the table in `phases`.
    """

    def __init__(
        self,
        settings: SupervisorSettings,
        *,
        estate: Estate | None = None,
        run_worker: str = RUN_WORKER,
        run_steward: str = RUN_STEWARD,
    ) -> None:
        """`estate`: of the program in whose place we are; its processes are ours."""
        self._settings = settings
        self._former = estate
        self._phase = Phase[estate.phase] if estate else Phase.STARTING
        self._code: ExitCode | None = None
        self._events: deque[Event] = deque()
        self._explained: set[str] = set()
        self._started_at = estate.started_at if estate else clock.monotonic()
        self._grace_ends = math.inf
        self._closing_ends = math.inf
        self._inherited = inheritance(settings, estate, run_worker)
        self._signals = Signals((signal.SIGCHLD, *_EVENTS))
        self._selector = selectors.DefaultSelector()
        self._strays = Strays(os.getpid())
        self._server: Server | None = None
        self._stewardship = Stewardship(
            self._inherited,
            self._ours,
            self._watch,
            lambda waiting: self._crew.suspects(waiting),
            lambda: self._events.append(Event.MISCONFIGURED),
            run_steward,
        )
        self._crew = Crew(
            self._inherited,
            self._stewardship.hand_over,
            self._stewardship.count_suspects,
            self._events.append,
        )
        self._dumps = Dumps(self._inherited.spool, self._inherited.board.seats, self._title_of, self._writers)
        self._crew.dump_of = self._dumps.died
        self._vigil = Vigil(settings, self._crew.posts, self._crew, self._dumps)
        self._premises = Premises(settings, Verbs(self), estate and estate.reception)
        self._herald = Herald(self._standing)
        self._sources = Sources(self._source)
        reliefs = Reliefs(self._crew)
        self._recycling = Recycling(settings.limits, self._crew, self._sources, reliefs)
        self._roll = Roll(
            settings, self._crew, self._sources, reliefs, began=self._reloading, ended=self._herald.reloaded
        )
        self._changes = Watch(settings.app_dir) if settings.watch else None
        self._sizing = Sizing(settings, self._crew, self._inherited.board.bulletin, lambda: self._roll.going)
        self._publisher = Publisher(self._inherited.board.bulletin, settings, self._crew)
        self._inherited.board.bulletin.started_at = self._started_at
        self._handover = Handover(
            self._inherited,
            self._crew,
            self._sizing,
            self._sources,
            self._stewardship,
            self._strays,
            self._roll,
        )
        self._succession = Succession(
            settings,
            closing=self._ours,
            settled=lambda: self._handover.half_done(self._phase),
            unheard=lambda: bool(self._events) or self._signals.waiting(),
            estate=lambda: self._handover.estate(self._phase, self._started_at, self._premises.reception),
        )

    def run(self) -> int:
        """Returns the exit code, when every process of the service has left."""
        if problem := self._occupy():
            self._signals.restore()
            return problem
        self._start()
        while self._phase is not Phase.GONE:
            wake_at = self._turn(clock.monotonic())
            for key, _ in self._selector.select(max(0.0, min(wake_at - clock.monotonic(), PERIOD))):
                key.data()
            self._bury()
            self._crew.look()
            self._decide()
            self._crew.tell()
            self._publish()
        if self._code is None:
            self._code = ExitCode.HANDED_BACK if self._crew.handed_back else ExitCode.CLEAN
        self._end(self._code)
        return self._code

    # Start and end

    def _occupy(self) -> ExitCode | None:
        """Pidfile, control socket and port are ours, or it has been said why not: the exit code."""
        try:
            self._premises.claim()
        except (Taken, ValueError) as error:
            logger.error("%s", error)
            code = ExitCode.TAKEN if isinstance(error, Taken) else ExitCode.USAGE
            self._premises.release(code)
            return code
        try:
            address = self._inherited.entrance.open()
        except CannotListen as error:
            logger.error("%s", error)
            self._premises.release(ExitCode.USAGE)
            return ExitCode.USAGE
        if address:
            logger.info("health answers at %s", address)
            self._inherited.metrics.open()
        return None

    def _start(self) -> None:
        settings = self._settings
        titles.supervisor(settings.docket.name)
        logger.info(
            "supervisor %d %s docket %s: %d processes with %d slots each",
            os.getpid(),
            "goes on with" if self._former else "starts",
            settings.docket.name,
            self._former.wanted if self._former else settings.processes,
            settings.worker.concurrency,
        )
        self._selector.register(self._signals, selectors.EVENT_READ, self._signalled)
        self._selector.register(self._inherited.notices, selectors.EVENT_READ, self._noticed)
        self._premises.open(self._selector)
        self._compare_patience()
        self._server = hold_server(settings.docket.url)
        if settings.watch:
            # Compiled files are told apart by the second of their change: two edits may come within one.
            sys.dont_write_bytecode = True
        # Without a sub-reaper, workers forked by a template would be nobody's children once it dies.
        self._preloads = become_subreaper() and settings.preload
        if self._former is not None:
            self._handover.go_on(self._former, self._phase, clock.monotonic())
            self._publish()
            self._herald.reexecuted()
            listen_again()
            return
        self._stewardship.start()
        self._sources.start()
        self._publish()
        self._crew.assemble(self._sources.current)

    def _source(self, numbers: Generations) -> Hiring:
        if not self._preloads:
            return DirectHiring(self._inherited, self._ours, self._crew.hired, numbers)
        return TemplateHiring(
            self._inherited, self._ours, self._crew.hired, self._watch, self._import_failed, numbers
        )

    def _compare_patience(self) -> None:
        """What was said with `--stop-timeout` has been checked; what the unit says is found out here."""
        ours, theirs = self._settings.longest_stop, None
        if self._herald.heard and self._settings.stop_timeout is None:
            theirs = granted()
        if theirs is not None and theirs <= ours:
            logger.warning(
                "systemd's patience (TimeoutStopSec=%s) should be above ours (%s), or a stop may be cut short",
                describe(theirs),
                describe(ours),
            )

    def _end(self, code: ExitCode) -> None:
        self._sources.dismiss()
        self._stewardship.kill()
        self._succession.leave()
        for pid in (*self._stewardship.pids(), *self._sources.pids(), *self._succession.pids):
            os.waitpid(pid, 0)
        self._premises.release(code)
        self._herald.close()
        self._selector.close()
        self._signals.restore()
        self._inherited.lifeline.close()
        self._inherited.notices.close()
        self._inherited.entrance.close()
        self._inherited.metrics.close()
        self._inherited.spool.close()
        if self._server is not None:
            self._server.release()
        if os.getpid() == 1:
            farewell()

    def _publish(self) -> None:
        bulletin = self._inherited.board.bulletin
        before = bulletin.complete
        self._publisher.publish(
            self._phase, self._sources.current.generation, self._sources.pids(), self._stewardship.pids()
        )
        if bulletin.complete and not before:
            logger.info("the start is complete after %.2fs", clock.monotonic() - self._started_at)
            self._herald.ready()

    def _ours(self) -> Iterable[Closeable]:
        """What a forked child must not keep open."""
        watched = [key.fileobj for key in self._selector.get_map().values()]
        channels = [each for each in watched if isinstance(each, Channel)]
        return (
            *channels,
            self._selector,
            self._signals,
            self._premises,
            self._herald,
            self._inherited.notices,
            self._inherited.board,
            self._inherited.lifeline,
            self._inherited.entrance,
        )

    # What others ask of us

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def crew(self) -> Crew:
        return self._crew

    @property
    def sizing(self) -> Sizing:
        return self._sizing

    @property
    def roll(self) -> Roll:
        return self._roll

    @property
    def dumping(self) -> bool:
        return self._dumps.pending

    def happened(self, event: Event) -> None:
        self._events.append(event)

    def _standing(self) -> str:
        return standing(self._crew, self._inherited.board.bulletin)

    def measured(self) -> Callable[[], str | None]:
        """Says `""` once the figures are of now, or it has taken too long."""
        return figures_of_now(self._inherited.board.bulletin, self._stewardship.measure)

    def status(self) -> dict[str, Any]:
        return assemble(self._inherited.board, self._settings)

    # What wakes us up

    def _watch(self, channel: Channel, told: Callable[[Message], None]) -> None:
        """Passes on whatever arrives, until the channel has ended."""

        def arrived() -> None:
            for message in channel.receive():
                told(message)
            if channel.ended:
                self._selector.unregister(channel)
                channel.close()

        self._selector.register(channel, selectors.EVENT_READ, arrived)

    def _signalled(self) -> None:
        for number in self._signals.receive():
            if event := _EVENTS.get(number):
                logger.info("received %s", number.name)
                self._events.append(event)

    def _noticed(self) -> None:
        for message in self._inherited.notices.receive():
            if isinstance(message, ImportFailed):
                self._import_failed(message)

    def _import_failed(self, failure: ImportFailed) -> None:
        """Every worker may say the same; it is told once."""
        if failure.explanation not in self._explained:
            self._explained.add(failure.explanation)
            what = "are refused" if failure.refused else "failed to import"
            logger.error("task modules %s: %s", what, failure.explanation)
            if self._settings.watch:
                logger.info("waiting for the next change")
        if self._settings.watch:
            return
        # Refused while the service runs (by a template that replaces another one), it goes on with what it has.
        starting = self._phase in STARTING
        self._events.append(Event.MISCONFIGURED if failure.refused and starting else Event.IMPORT_FAILED)

    def _reloading(self) -> None:
        # What was explained of the last try is to be told again of this one.
        self._explained.clear()
        self._herald.reloading()

    def _bury(self) -> None:
        for death in reap(self._crew.end_session):
            if any(each.died(death) for each in (self._stewardship, self._sources, self._succession)):
                continue
            if self._crew.died(death):
                self._strays.orphaned_by(death.pid, clock.monotonic())
            else:
                logger.debug("reaped process %d, which is none of ours", death.pid)

    # As time passes

    def _turn(self, now: float) -> float:
        wake_at = min(
            self._stewardship.turn(now),
            self._sources.turn(now),
            self._crew.turn(now, self._boots_count_from(now)),
            self._vigil.turn(now),
            self._dumps.turn(now),
            self._strays.turn(now, self._known()),
            self._premises.turn(now),
            self._sizing.turn(now, serving=self._phase is Phase.RUNNING),
            self._herald.turn(
                now, progressing=self._phase in STARTING or self._leaving, healthy=self._crew.healthy
            ),
        )
        if self._phase in ALIVE:
            wake_at = min(wake_at, self._renew(now))
        if self._phase in STARTING:
            wake_at = min(wake_at, self._starting(now))
        elif self._phase is Phase.CLOSING:
            wake_at = min(wake_at, self._closing(now))
        else:
            if self._leaving and self._crew.empty:
                self._events.append(Event.EMPTY)
            if now >= self._grace_ends:
                self._grace_ends = math.inf
                self._events.append(Event.DEADLINE)
            wake_at = min(wake_at, self._grace_ends)
        if self._events:
            self._decide()
            return now
        return wake_at

    def _renew(self, now: float) -> float:
        """Workers are replaced for the sake of new code, or of what they have become."""
        # First, for it waits for a moment between two replacements.
        wake_at = self._succession.turn(now)
        if self._changes is not None:
            if changed := self._changes.turn(now):
                logger.info("changed: %s", enumerated(changed))
                grace = self._settings.short_drain
                self._roll.ask(Manner(canary=timedelta(0), grace=grace, supersedes=True))
            wake_at = min(wake_at, self._changes.next_look)
        elif self._phase in STARTING:
            return wake_at
        return min(wake_at, self._roll.turn(now), self._recycling.turn(now, rolling=self._roll.going))

    @property
    def _leaving(self) -> bool:
        return self._phase not in ALIVE

    def _known(self) -> set[int]:
        return {
            *self._crew.pids(),
            *self._stewardship.pids(),
            *self._sources.pids(),
            *self._succession.pids,
        }

    def _boots_count_from(self, now: float) -> float:
        """No boot is late while there is no Redis to be ready for."""
        if self._stewardship.reachable is False:
            return now
        return self._stewardship.reachable_since or self._started_at

    def _starting(self, now: float) -> float:
        late_at = self._boots_count_from(now) + self._settings.boot_timeout.total_seconds()
        if self._settings.watch:
            # Whoever develops may need a while until there is anything that can become ready.
            late_at = math.inf
        if now >= late_at:
            logger.error("no worker became ready within %s", describe(self._settings.boot_timeout))
            self._events.append(Event.BOOT_TIMED_OUT)
        if not self._settings.require_redis or self._stewardship.reachable:
            return late_at
        patience_ends = self._started_at + self._settings.redis_patience.total_seconds()
        if now >= patience_ends:
            why = self._stewardship.reason or "no answer"
            logger.error(
                "Redis was not reachable within %s: %s", describe(self._settings.redis_patience), why
            )
            self._events.append(Event.NO_REDIS)
        return min(late_at, patience_ends)

    def _closing(self, now: float) -> float:
        """The steward leaves when it has nothing left to hand over; strays get the time to end that they were given,
        and are looked for once more: nobody will after us."""
        if self._stewardship.settled:
            self._stewardship.dismiss()
        if now >= self._closing_ends:
            for worker_id in self._stewardship.unsettled:
                logger.warning(
                    "could not hand over what worker %s held: it follows when its lease lapses", worker_id
                )
            self._events.append(Event.CLOSED)
        elif not self._stewardship.pids() and self._strays.none_left(now, self._known()):
            self._events.append(Event.CLOSED)
        return min(self._closing_ends, self._strays.next_look)

    # Stacks

    def dump_stacks(self) -> None:
        """Every process writes the stacks of its threads and asyncio tasks, which then go to the log."""
        spool, title = self._inherited.spool, self._settings.docket.name
        self._dumps.own(f"supervisor {os.getpid()}")
        for post in self._crew.posts:
            if post.pid:
                self._dumps.ask(post.number, post.pid, post.title)
        for pid in self._stewardship.pids():
            self._dumps.ask(spool.steward, pid, f"steward {title}")
        for pid in self._sources.pids():
            self._dumps.ask(spool.template, pid, f"template {title}")

    def _writers(self) -> list[int]:
        """Who may write its stacks into the spool, by the number of its file."""
        spool = self._inherited.spool
        return [*(post.number for post in self._crew.posts if post.pid), spool.steward, spool.template]

    def _title_of(self, number: int) -> str:
        spool = self._inherited.spool
        if number < spool.steward:
            return self._crew.posts[number].title
        return "steward" if number == spool.steward else "template"

    # What to do about it

    def _decide(self) -> None:
        while self._events:
            event = self._events.popleft()
            transition = after(self._phase, event)
            self._phase = transition.phase
            if self._code is None:
                self._code = transition.code
            for action in transition.actions:
                self._act(action, event)

    def _act(self, action: Action, event: Event) -> None:
        now = clock.monotonic()
        settings = self._settings
        match action:
            case Action.ANNOUNCE:
                logger.info("first worker is ready %.2fs after the start", now - self._started_at)
            case Action.DUMP:
                logger.info("%s: %s", self._phase.name.lower().replace("_", ", "), self._standing())
                self.dump_stacks()
                if event is Event.QUIT:
                    self._dumps.at_once()  # what follows ends everybody
            case Action.GROW:
                self._sizing.by(1)
            case Action.SHRINK:
                self._sizing.by(-1)
            case Action.QUIET:
                logger.info("quiet: nothing is claimed, what runs goes on")
                self._crew.be_quiet(True)
            case Action.RESUME:
                logger.info("no longer quiet")
                self._crew.be_quiet(False)
            case Action.RELOAD:
                self._roll.ask()
            case Action.REEXEC:
                self._succession.ask()
            case Action.DRAIN:
                self._herald.stopping()
                self._succession.leave()
                self._roll.leave()
                self._sources.dismiss()
                self._leave_by(
                    now + settings.drain_timeout.total_seconds(),
                    event,
                    f"drain for {describe(settings.short_drain)} only",
                )
            case Action.HURRY:
                self._leave_by(now + settings.short_drain.total_seconds(), event, "stop immediately")
            case Action.STOP:
                self._herald.stopping()
                self._succession.leave()
                self._roll.leave()
                self._sources.dismiss()
                self._leave_by(now, event, "")
            case Action.KILL:
                self._crew.kill()
            case Action.CLOSE:
                self._closing_ends = now + RESERVED_SECONDS

    def _leave_by(self, deadline: float, event: Event, next_effect: str) -> None:
        """Tells every worker the instant; those that are there a margin later are killed."""
        margin = self._settings.kill_margin.total_seconds()
        self._grace_ends = min(self._grace_ends, deadline + margin)
        left = max(0.0, self._grace_ends - margin - clock.monotonic())
        how = f"draining, for {left:.0f}s at most" if left else "stopping immediately"
        warning = f"; the next one will {next_effect}" if event is Event.INT and next_effect else ""
        logger.info("%s%s", how, warning)
        self._crew.drain(deadline)
