"""The worker processes: who sits in which seat, whether they are ready, and what follows when one dies."""

from __future__ import annotations

import logging
import math
import os
import signal
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import timedelta

from docket import clock
from docket_supervisor.autopsy import Finding, examine, left
from docket_supervisor.board import InFlight
from docket_supervisor.child import Inheritance
from docket_supervisor.codes import ExitCode
from docket_supervisor.deaths import Death
from docket_supervisor.estate import Occupant
from docket_supervisor.forking import UNFORKABLE_PAUSE
from docket_supervisor.hiring import Hiring
from docket_supervisor.messages import Late
from docket_supervisor.obituaries import tell
from docket_supervisor.oom import OutOfMemory
from docket_supervisor.phases import Event
from docket_supervisor.posts import Post, Role, Sentence, Sitting, Watch
from docket_supervisor.restarts import LONGEST_DELAY, GiveUp, Life, Restart
from docket_supervisor.roster import Roster

SPARE_AFTER = 1.0
"""Seconds for which all slots must have been ready: a start, or what follows a death, is not slowed by it."""
OLD_NEWS = 5.0
"""Seconds after which a kill for want of memory explains no death any more."""
OUTLIVED = Sentence("drain-deadline", "it outlived its deadline")

logger = logging.getLogger("docket.supervisor")


class Crew(Roster):
    """Slots are kept filled, and the sickroom when suspects wait."""

    def __init__(
        self,
        inherited: Inheritance,
        hand_over: Callable[[str, str, list[str], list[Late]], None],
        count_suspects: Callable[[], None],
        happened: Callable[[Event], None],
    ) -> None:
        super().__init__(inherited.settings, inherited.board.seats)
        self._bulletin = inherited.board.bulletin
        self._metrics = inherited.metrics
        self._hand_over = hand_over
        self._count_suspects = count_suspects
        self._happened = happened
        self._leaving = False
        self._quiet = self._told_quiet = False
        self._deadline = math.inf
        self._told_all = False
        self.handed_back = False
        """A worker could not finish in time, and what it held was given back."""
        self.relief_failed: Callable[[Post, str], None] = lambda post, cause: None
        """Called when a worker that was to take over a slot has died before it did."""
        self.dump_of: Callable[[int], str] = lambda seat: ""
        """What the process in this seat wrote as it died, if it did."""
        self._oom = OutOfMemory()
        self._no_spare_until = self._forget_at = 0.0
        self._hiring: Hiring
        self._early: dict[int, Death] = {}
        self._unfit: list[Post] = []

    # Filling seats

    def assemble(self, hiring: Hiring) -> None:
        """Every slot gets its first worker."""
        self._hiring = hiring
        for post in self._slots:
            self._hire(post)

    def go_on(self, former: Iterable[Occupant], wanted: int, hiring: Hiring, *, quiet: bool) -> None:
        """Instead of `assemble`: whoever worked for an earlier supervisor, which this one has taken the place of, works
        on."""
        self._hiring, self.wanted, self._quiet = hiring, wanted, quiet
        self._told_all, self._told_quiet = True, quiet
        for occupant in former:
            self._posts[occupant.number].settle_in(occupant, hiring)
        self._slots = sorted(
            (post for post in self._posts if post.role is Role.WORKER), key=lambda post: post.slot
        )
        for post in self._slots:
            if post.sitting is Sitting.VACANT:
                self._hire(post)

    def suspects(self, waiting: int) -> None:
        """So many executions are to be run alone, or are being: each gets a process, at most one for each slot."""
        if self._leaving or self._quiet:
            return
        vacant = [post for post in self._sickroom if post.sitting is Sitting.VACANT]
        wanted = min(waiting, len(self._slots)) - (len(self._sickroom) - len(vacant))
        for post in vacant[: max(0, wanted)]:
            self._hire(post)

    def hired(self, number: int, pid: int) -> None:
        """The answer to a request; pid 0 when there could be no process now."""
        post = self._posts[number]
        if post.sitting is not Sitting.HIRING or post.role is Role.RETIRING:
            self._turn_away(pid)
            if post.role is Role.RETIRING:
                self._free(post)
            return
        if pid == 0:
            self._rest(post, UNFORKABLE_PAUSE)
            return
        post.pid = pid
        post.generation = post.source.generation if post.source else 0
        post.forked_at = clock.monotonic()
        post.sitting = Sitting.BOOTING
        post.seat.taken(pid)
        if early := self._early.pop(pid, None):
            self.died(early)
        if not self._outstanding:
            self._early.clear()

    @property
    def _outstanding(self) -> bool:
        sources = [self._hiring, *(post.source for post in self._posts if post.source)]
        return any(source.outstanding for source in sources)

    def _turn_away(self, pid: int) -> None:
        """It comes too late: the seat is not to be taken any more. It has not been seated, so it has done nothing."""
        if pid and self._early.pop(pid, None) is None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _hire(self, post: Post) -> None:
        post.seat.vacate()
        post.seat.quiet = self._quiet
        post.killed, post.sentence, post.watch = False, None, Watch()
        post.rest_until = math.inf
        post.sitting = Sitting.HIRING
        if post.role is not Role.RELIEF or post.source is None:
            post.source = self._hiring
        post.source.hire(post.number, slot=post.slot, quarantine=post.quarantine)

    def _rest(self, post: Post, seconds: float) -> None:
        if self._leaving:
            post.sitting = Sitting.VACANT
        elif seconds <= 0:
            self._hire(post)
        else:
            post.sitting = Sitting.RESTING
            post.rest_until = clock.monotonic() + seconds

    # More slots and fewer

    def resize(self, wanted: int) -> None:
        """So many slots are kept filled from now on; those that are too many drain, the last ones first.

        A slot more needs a seat: while drained workers sit in too many of them, `fill` makes up for it later.
        """
        self.wanted = wanted
        for relief in [post for post in self._posts if post.role is Role.RELIEF and post.slot >= wanted]:
            self.retire(relief)
            self.relief_failed(relief, "its slot is gone")
        while len(self._slots) > wanted:
            self.retire(self._slots.pop())
        self.fill()
        self._give_up_if_all_have()

    def fill(self) -> None:
        while len(self._slots) < self.wanted and not self._leaving:
            post = self._free_post()
            if post is None:
                return
            post.role, post.slot, post.restarts = Role.WORKER, len(self._slots), self._budget()
            self._slots.append(post)
            self._told_all = False
            self._hire(post)

    # Handing slots on

    def hire_from(self, source: Hiring) -> None:
        """Whoever is hired from now on comes from there."""
        self._hiring = source

    def relieve(self, slot: int, source: Hiring) -> Post | None:
        """A worker from this source is on its way to take the slot over; None if there is no seat for it now."""
        extra = sum(post.role in (Role.RELIEF, Role.RETIRING) for post in self._posts)
        post = self._free_post() if extra < self._settings.surge else None
        if post is None or self._leaving:
            return None
        post.role, post.slot, post.source, post.restarts = Role.RELIEF, slot, source, self._budget()
        self._hire(post)
        return post

    def hand_on(self, relief: Post, grace: timedelta | None = None) -> None:
        """The relief stands for its slot; the one that did retires, and has this long to finish what it runs."""
        retiring, self._slots[relief.slot] = self._slots[relief.slot], relief
        relief.role = Role.WORKER
        if relief.sitting is Sitting.READY:
            # The first one ever, if whoever stood for the slot never came up.
            self._happened(Event.READY)
        self.retire(retiring, grace)

    def retire(self, post: Post, grace: timedelta | None = None) -> None:
        """Its worker drains and is not followed by another one; the seat is free once that has left."""
        post.role = Role.RETIRING
        if post.pid:
            deadline = (
                clock.monotonic() + (self._settings.drain_timeout if grace is None else grace).total_seconds()
            )
            post.kill_at = deadline + self._settings.kill_margin.total_seconds()
            post.seat.drain_at = min(deadline, self._deadline)
            self._signal(post, signal.SIGTERM)
        elif post.sitting is not Sitting.HIRING:
            self._free(post)
        elif post.source is not None:
            post.source.cancel(post.number)

    def _free(self, post: Post) -> None:
        post.role, post.slot, post.source = Role.FREE, -1, None
        post.sitting = Sitting.VACANT
        post.rest_until = post.kill_at = math.inf

    # Spares

    def keep_a_spare(self, now: float) -> None:
        """One process waits, imported and idle, to take over a slot at once. It comes from where workers come from."""
        if self._leaving or now < self._no_spare_until:
            return
        spare = next((post for post in self._posts if post.role is Role.SPARE), None)
        if spare is not None:
            if spare.source is not self._hiring:
                self.retire(spare)
            return
        if not all(post.sitting is Sitting.READY for post in self._slots):
            self._no_spare_until = now + SPARE_AFTER
            return
        free = [post for post in self._posts if post.role is Role.FREE]
        if len(free) > self._settings.surge:
            free[0].role, free[0].restarts = Role.SPARE, self._budget()
            self._hire(free[0])

    def replace(self, post: Post, sentence: Sentence, grace: timedelta) -> None:
        """The worker drains within this grace, and is killed if it must be; its slot is somebody else's at once."""
        post.sentence = sentence
        if post.quarantine:
            self.condemn(post, sentence)  # it has no neighbours
        elif post.role is Role.WORKER and not self._leaving and (successor := self._successor(post.slot)):
            self.hand_on(successor, grace)
        else:
            deadline = clock.monotonic() + grace.total_seconds()
            post.kill_at = min(post.kill_at, deadline + self._settings.kill_margin.total_seconds())
            post.seat.drain_at = min(deadline, post.seat.drain_at or math.inf)
            self._signal(post, signal.SIGTERM)

    def _successor(self, slot: int) -> Post | None:
        """The spare, told to take this slot; failing that a new worker; None if there is no seat for one."""
        spare = next((post for post in self._posts if post.role is Role.SPARE), None)
        if spare is not None and spare.sitting is Sitting.READY and spare.source is self._hiring:
            spare.slot, spare.restarts = slot, self._budget()
            spare.sitting, spare.forked_at = Sitting.BOOTING, clock.monotonic()
            spare.seat.quiet = self._quiet
            spare.seat.assigned = slot
            logger.info("%s takes over slot %d", spare.title, slot)
            self._signal(spare, signal.SIGCONT)
            return spare
        post = self._free_post()
        if post is not None:
            post.role, post.slot, post.restarts = Role.WORKER, slot, self._budget()
            self._hire(post)
        return post

    # As time passes

    def look(self) -> None:
        """Who has become ready, as the board says."""
        for post in self._posts:
            if post.sitting is Sitting.BOOTING and post.seat.ready:
                post.sitting = Sitting.READY
                after = clock.monotonic() - post.forked_at
                logger.info("%s is ready after %.2fs", post.title, after)
                if post.role is Role.WORKER:
                    self._happened(Event.READY)

    def tell(self) -> None:
        """Says once that the service is complete, each time that all of it is quiet, and who is refused while it
        serves."""
        if not self._told_all and all(post.sitting is Sitting.READY for post in self._slots):
            self._told_all = True
            logger.info("all workers are ready: %d", len(self._slots))
        if not self._told_quiet and self.claims_nothing:
            self._told_quiet = True
            logger.info("all workers are quiet")
        for post in self._unfit:
            # Not if the service ends for it, which has been decided by now.
            if post.sitting is Sitting.RESTING:
                logger.warning(
                    "slot %d: its worker cannot begin with these settings; another one tries in %.0fs",
                    post.slot,
                    LONGEST_DELAY,
                )
        self._unfit.clear()

    def turn(self, now: float, booting_since: float) -> float:
        """Ends rests and boots that took too long; returns when to be called again.

        `booting_since` is the moment before which no boot time is counted, since there was no Redis to be ready for.
        """
        self.fill()
        self.keep_a_spare(now)
        if now >= self._forget_at:
            self._forget_at = now + OLD_NEWS
            self._oom.forget()
        wake_at = self._no_spare_until if now < self._no_spare_until else math.inf
        limit = self._settings.boot_timeout.total_seconds()
        for post in self._posts:
            if post.sitting is Sitting.RESTING:
                if now >= post.rest_until:
                    self._hire(post)
                else:
                    wake_at = min(wake_at, post.rest_until)
            elif post.sitting is Sitting.BOOTING and not (post.killed or post.seat.drain_at):
                late_at = max(post.forked_at, booting_since) + limit
                if now >= late_at:
                    self.condemn(post, Sentence("boot-timeout", "it was not ready within the boot timeout"))
                else:
                    wake_at = min(wake_at, late_at)
            if now >= post.kill_at:
                post.kill_at = math.inf
                self.condemn(post, post.sentence or OUTLIVED)
            wake_at = min(wake_at, post.kill_at)
        return wake_at

    # Deaths

    def died(self, death: Death) -> bool:
        """True if it was one of ours, or may turn out to be when the template has told its pid."""
        post = next((post for post in self._posts if post.pid == death.pid), None)
        if post is None:
            if self._outstanding:
                self._early[death.pid] = death
            return False
        self._bury(post, death)
        return True

    def _bury(self, post: Post, death: Death) -> None:
        running = post.seat.inflight
        finding = examine(post, death, running, self._oom, self.dump_of(post.number))
        life = Life(
            seconds=clock.monotonic() - post.forked_at,
            started=post.seat.totals.started,
            settled=post.seat.totals.settled,
            explained=bool(finding.guilty or finding.late),
            ready=post.seat.phase not in ("", "starting"),
        )
        if name := post.seat.worker_id:
            self.handed_back |= self._leaving and death.code != ExitCode.CLEAN
            started = [each.entry for each in finding.guilty]
            self._hand_over(name, f"worker process {death.pid} {finding}", started, _late(finding.late))
        tell(post, death, life, running, finding, asked_to_leave=self._leaving or post.role is Role.RETIRING)
        self._record(post, death, finding)
        self._metrics.forget(post.number)
        post.pid = 0
        post.sitting = Sitting.VACANT
        # Whoever reads the board takes what a seat says for what somebody does.
        post.seat.vacate()
        self._judge(post, death, life)

    def _record(self, post: Post, death: Death, finding: Finding) -> None:
        """For whoever counts deaths; leaving as one was told to is none."""
        if left(post, death) and (death.code == ExitCode.CLEAN or post.sentence is None):
            return
        self._bulletin.died(finding.label)
        # A relief, such as a canary, stands for no slot yet: the worker that does is alive.
        if post.slot >= 0 and post.role is not Role.RELIEF:
            self._bulletin.slots[post.slot].died(finding.cause)

    def _judge(self, post: Post, death: Death, life: Life) -> None:
        if self._leaving:
            self.handed_back |= death.code == ExitCode.HANDED_BACK
        if post.role is Role.RETIRING:
            self._free(post)
            return
        if self._leaving:
            return
        if post.role is Role.SPARE:
            self._free(post)
            self._no_spare_until = clock.monotonic() + LONGEST_DELAY
            return
        if post.role is Role.RELIEF:
            self._free(post)
            self.relief_failed(post, "was not ready in time" if post.killed else death.cause)
            return
        # What its exit status says of settings and modules counts as long as nothing was run in it: afterwards a task
        # may have chosen it.
        verdict = None if life.ready else death.code
        if verdict == ExitCode.IMPORT:
            if self._settings.watch and not post.quarantine:
                post.sitting = Sitting.GIVEN_UP
                return
            self._happened(Event.IMPORT_FAILED)
        elif verdict == ExitCode.USAGE:
            self._happened(Event.UNFIT)
        if post.quarantine:
            self._judge_quarantine(post, death, life)
            return
        match post.restarts.died(clock.monotonic(), life):
            case Restart(after):
                self._bulletin.slots[post.slot].restarts += 1
                if verdict == ExitCode.USAGE:
                    # People change settings, and they take longer than any backoff that begins with nothing.
                    after = LONGEST_DELAY
                    self._unfit.append(post)
                self._rest(post, after)
            case GiveUp(restarts):
                self._give_up(post, restarts)

    def _judge_quarantine(self, post: Post, death: Death, life: Life) -> None:
        """Not refilled for its own sake: the steward says whether suspects still wait. Never given up either."""
        if death.code != ExitCode.CLEAN:
            verdict = post.restarts.died(clock.monotonic(), life)
            pause = verdict.after if isinstance(verdict, Restart) else LONGEST_DELAY
            if pause > 0:
                self._rest(post, pause)
        if life.started or death.code != ExitCode.CLEAN:
            # One that found nothing to run must not be followed at once by another: the suspects that were counted
            # may be running on another host. The steward counts again before long.
            self._count_suspects()

    def _give_up(self, post: Post, restarts: int) -> None:
        post.sitting = Sitting.GIVEN_UP
        logger.error("giving up slot %d after %d restarts", post.number, restarts)
        self._give_up_if_all_have()

    def _give_up_if_all_have(self) -> None:
        if all(slot.sitting is Sitting.GIVEN_UP for slot in self._slots) and not self._settings.watch:
            self._happened(Event.GAVE_UP)

    # Quiet

    def be_quiet(self, quiet: bool) -> None:
        """Nobody claims, or everybody does again; those that are born meanwhile as well."""
        self._quiet = quiet
        self._told_quiet = False
        for post in self._posts:
            post.seat.quiet = quiet
            self._signal(post, signal.SIGCONT)
        if not quiet:
            self._count_suspects()

    @property
    def claims_nothing(self) -> bool:
        """Every worker that is up has heard that it is to be quiet."""
        return self._quiet and not any(post.pid and post.seat.phase == "working" for post in self._posts)

    @property
    def nobody_is_quiet(self) -> bool:
        return not self._quiet and not any(post.pid and post.seat.phase == "quiet" for post in self._posts)

    # Leaving

    def drain(self, deadline: float) -> None:
        """Every worker is told the instant by which it must have left; called again, an earlier one."""
        self._leaving = True
        self._deadline = min(self._deadline, deadline)
        for post in self._posts:
            if post.sitting in (Sitting.RESTING, Sitting.HIRING):
                # Nobody is forked any more; one who was, and whose pid we learn later, is turned away.
                post.sitting = Sitting.VACANT
            if post.pid:
                post.seat.drain_at = self._deadline
                self._signal(post, signal.SIGTERM)

    def kill(self) -> int:
        """Whoever is still there does not leave by itself; returns how many there were."""
        alive = [post for post in self._posts if post.pid]
        for post in alive:
            self.condemn(post, post.sentence or OUTLIVED)
        return len(alive)

    def end_session(self, pid: int) -> None:
        """What the tasks of this dying worker have started is asked to end with it."""
        if any(post.pid == pid for post in self._posts):
            with suppress(OSError):
                os.killpg(pid, signal.SIGTERM)

    def condemn(self, post: Post, sentence: Sentence) -> None:
        """It is killed, and this is why."""
        logger.warning("killing %s: %s", post.title, sentence.why)
        post.sentence, post.killed = post.sentence or sentence, True
        post.watch.condemned_at = clock.monotonic()
        self._signal(post, signal.SIGKILL)

    def _signal(self, post: Post, number: int) -> None:
        # Pid 0 would be our own process group.
        if post.pid:
            with suppress(ProcessLookupError):
                os.kill(post.pid, number)


def _late(running: Sequence[InFlight]) -> list[Late]:
    return [
        (each.entry, each.limit.verb, each.limit.operand, each.limit.allowed)
        for each in running
        if each.limit
    ]
