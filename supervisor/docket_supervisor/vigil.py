"""Watches the workers that are there: does the loop turn, how long do executions run, does a time limit hold."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Protocol

from docket import clock, stacks
from docket.durations import describe
from docket_supervisor import hangs
from docket_supervisor.board import InFlight
from docket_supervisor.dumps import HASTE, PATIENCE, Dumps
from docket_supervisor.hangs import Ladder, Step
from docket_supervisor.memory import private_bytes
from docket_supervisor.posts import Post, Role, Sentence, Sitting
from docket_supervisor.settings import SupervisorSettings
from docket_supervisor.vitality import stopped

logger = logging.getLogger("docket.supervisor")

INTERVAL = 0.25
_CALM_INTERVAL = 1.5
"""Seconds between two looks while nobody runs anything and nothing is wrong."""
_ASLEEP = 3.0
"""Seconds between two turns of ours after which we were stopped ourselves, and no tick's age means anything."""
_OVERDUE = 5.0
"""Seconds after which one that was killed should have been gone."""
_SAMPLED_EVERY = 5.0
_SAMPLED_AT_REST_EVERY = 60.0
"""Seconds between two samples of what has begun nothing since the last one."""
_WATCHED = frozenset({"working", "quiet", "draining"})


class Acts(Protocol):
    """What can be done about a worker."""

    def condemn(self, post: Post, sentence: Sentence) -> None: ...
    def replace(self, post: Post, sentence: Sentence, grace: timedelta) -> None: ...


class Vigil:
    """What is to be done when is said by `hangs`; what was done so far stands in each post's `watch`."""

    def __init__(self, settings: SupervisorSettings, posts: Sequence[Post], acts: Acts, dumps: Dumps) -> None:
        self._ladder = Ladder.of(settings.hang_timeout.total_seconds())
        self._slow_after = settings.slow_after.total_seconds()
        self._threads = settings.worker.thread_count
        self._neighbours_grace = min(settings.drain_timeout, timedelta(seconds=hangs.NEIGHBOURS_GRACE))
        self._drain_timeout = settings.drain_timeout
        # A worker that leaves by itself, since it has found a bug in itself, hands back in its own time.
        self._patience = (settings.drain_timeout + settings.kill_margin).total_seconds()
        # One that has left, and is there still, shows before it is killed what it waits for.
        self._last_ladder = Ladder(
            ((self._patience, Step.DUMP), (self._patience + hangs.LAST_LOOK, Step.KILL))
        )
        self._posts, self._acts, self._dumps = posts, acts, dumps
        # Never so long that the first step of the ladder could be missed.
        first_step = self._ladder.steps[0][0]
        self._calm_interval = _CALM_INTERVAL if first_step > _CALM_INTERVAL else INTERVAL
        self._turned_at = self._since = clock.monotonic()
        self._next_turn = self._next_sample = 0.0

    def turn(self, now: float) -> float:
        """Returns when to be called again."""
        if now < self._next_turn:
            return self._next_turn
        if now - self._turned_at > _ASLEEP:
            self._since = now
        sampling = now >= self._next_sample
        if sampling:
            self._next_sample = now + _SAMPLED_EVERY
        calm = True
        for post in self._posts:
            if post.pid:
                if not post.watch.sampled_at or (sampling and self._may_have_grown(post, now)):
                    self._sample(post, now)
                self._look(post, now)
                calm = calm and self._at_rest(post)
        self._turned_at, self._next_turn = now, now + (self._calm_interval if calm else INTERVAL)
        return self._next_turn

    def _at_rest(self, post: Post) -> bool:
        watch = post.watch
        wrong = post.killed or watch.taken or watch.tainted or watch.slow
        return not (wrong or post.sitting is not Sitting.READY or post.seat.is_busy)

    def _may_have_grown(self, post: Post, now: float) -> bool:
        """The kernel walks through all its memory for an answer."""
        seat, watch = post.seat, post.watch
        has_run = seat.is_busy or seat.totals.started != watch.sampled_started
        return has_run or now - watch.sampled_at >= _SAMPLED_AT_REST_EVERY

    def _sample(self, post: Post, now: float) -> None:
        used = private_bytes(post.pid)
        if used is not None:
            post.watch.private_bytes, post.watch.sampled_at = used, now
            post.watch.sampled_started = post.seat.totals.started

    def _look(self, post: Post, now: float) -> None:
        if post.killed:
            post.seat.overdue = now - post.watch.condemned_at > _OVERDUE
        elif post.seat.phase == "left":
            self._mind_its_end(post, now)
        elif post.seat.phase in _WATCHED and (post.sitting is Sitting.READY or post.seat.phase == "draining"):
            # What its first task tells to leave may be draining before anybody has seen that it was ready.
            running = post.seat.inflight
            since = max(self._since, post.forked_at)
            late = hangs.lateness(now, post.seat.ticked_at, since, post.seat.pause)
            self._mind_the_loop(post, running, late)
            self._mind_the_limits(post, running, late, now)
            self._mind_its_leaving(post, running, now)
            self._mind_the_slow(post, running, now)

    # The loop

    def _mind_the_loop(self, post: Post, running: Sequence[InFlight], late: float) -> None:
        watch = post.watch
        if watch.taken and late < self._ladder.steps[0][0]:
            logger.info("%s turns its loop again", post.title)
            post.seat.stood_down_at, post.seat.evacuating = 0.0, False
            watch.taken, watch.place, watch.frame = 0, None, None
            return
        for step in self._ladder.due(late, watch.taken):
            watch.taken += 1
            self._take(step, post, running, late)

    def _take(self, step: Step, post: Post, running: Sequence[InFlight], late: float) -> None:
        match step:
            case Step.REPORT:
                post.watch.stopped = stopped(post.pid)
                self._report(post, running, late)
            case Step.STAND_DOWN:
                post.seat.stood_down_at = clock.monotonic()
            case Step.DUMP | Step.LAST_LOOK:
                post.watch.stopped = stopped(post.pid)
                if not post.watch.stopped:
                    self._look_into(post, HASTE if step is Step.LAST_LOOK else PATIENCE)
            case Step.EVACUATE:
                logger.info("what %s was given and has not begun goes to others", post.title)
                post.seat.evacuating = True
            case Step.KILL:
                self._sample(post, clock.monotonic())
                self._acts.condemn(post, self._verdict(post, running, late))

    def _report(self, post: Post, running: Sequence[InFlight], late: float) -> None:
        if post.watch.stopped:
            logger.warning(
                "%s is stopped by a signal: it can do nothing, and its lease is not renewed; CONT lets it go on",
                post.title,
            )
            return
        what = ", ".join(map(str, running)) or "nothing"
        logger.warning("%s has not turned its loop for %.1fs, running %s", post.title, late, what)

    def _look_into(self, post: Post, patience: float = PATIENCE) -> None:
        seen = partial(self._seen, post, post.pid)
        self._dumps.ask(post.number, post.pid, post.title, seen, patience=patience)

    def _seen(self, post: Post, pid: int, text: str) -> None:
        """Who blocks the loop, as its stack shows; kept for whatever comes of it."""
        if post.pid != pid or not (threads := stacks.parse(text)):
            return
        watch, main, running = post.watch, threads[-1], post.seat.inflight
        watch.dump, watch.place = text, stacks.place_of(main)
        who = next((each for each in running if each.place == watch.place and not each.thread), None)
        if who is not None:
            watch.frame = stacks.application_frame(main)
            self._tell_blocked(post, f"{who} blocks the loop of {post.title}", "; make it a plain def")
            return
        # Not what is on the loop: somebody may hold the interpreter lock, and what a thread runs is the likeliest.
        held = [stack for stack in threads[:-1] if stacks.place_of(stack) is not None]
        watch.frame = stacks.application_frame(held[0]) if len(held) == 1 else None
        in_threads = ", ".join(str(each) for each in running if each.thread) or "something"
        self._tell_blocked(post, f"{in_threads} may keep {post.title} from turning its loop", "")

    def _tell_blocked(self, post: Post, what: str, advice: str) -> None:
        if post.watch.taken:
            logger.warning("%s%s%s", what, f" at {post.watch.frame}" if post.watch.frame else "", advice)

    def _verdict(self, post: Post, running: Sequence[InFlight], late: float) -> Sentence:
        if post.watch.stopped:
            # Whoever sent that signal: nobody can tell it from one that an execution has sent to its own process, and
            # such a one would stop every worker that it is given to. So it is like a death by a signal: what ran is
            # suspect, is tried alone, and cleared if it comes to its end there. A machine that slept blames nobody, for
            # then we have not watched.
            entries = tuple(each.entry for each in running)
            return Sentence("stopped", f"it had been stopped for {late:.0f} s", entries)
        guilty = hangs.blockers(running, post.watch.place)
        why = f"its loop had not turned for {late:.1f} s"
        if post.watch.frame is not None:
            why += f", blocked at {post.watch.frame}"
        return Sentence("hang", why, tuple(each.entry for each in guilty))

    # Time limits

    def _mind_the_limits(self, post: Post, running: Sequence[InFlight], late: float, now: float) -> None:
        if post.watch.tainted:
            return
        for each in hangs.too_late(running, now, post.watch.place if late > hangs.TIMEOUT_GRACE else None):
            assert each.limit is not None
            allowed = describe(timedelta(seconds=each.limit.allowed))
            self._taint(post, f"{each} did not end at its time limit of {allowed}", late)
            return
        if post.seat.abandoned >= self._threads and post.role is not Role.QUARANTINE:
            threads = "its only thread is" if self._threads == 1 else f"all its {self._threads} threads are"
            self._taint(post, f"{threads} taken by executions that were told to end", late)

    def _taint(self, post: Post, why: str, late: float) -> None:
        post.watch.tainted = True
        # A loop that does not turn cannot settle what its neighbours finish.
        grace = self._neighbours_grace if late < hangs.TIMEOUT_GRACE else timedelta(0)
        logger.warning(
            "%s: %s claims nothing any more, and ends when its neighbours have, in %s at most",
            why,
            post.title,
            describe(grace),
        )
        self._look_into(post)
        self._acts.replace(post, Sentence("timeout", why), grace)

    # Leaving unasked

    def _mind_its_leaving(self, post: Post, running: Sequence[InFlight], now: float) -> None:
        """TERM or INT that we have not sent: somebody else has, perhaps an execution to its own process. What ends by
        itself is settled. What does not is not handed back, or it would do the same in the next worker: it is like what
        was running at a death by a signal."""
        if post.seat.phase != "draining" or post.seat.drain_at is not None:
            return
        if post.watch.unasked is None:
            post.watch.unasked = now, {each.entry for each in running}
            if running:
                logger.warning(
                    "%s was told to leave, and not by us; it runs %s, which has %s to end by itself",
                    post.title,
                    ", ".join(map(str, running)),
                    describe(self._drain_timeout),
                )
            return
        since, concerned = post.watch.unasked
        if now - since >= self._patience:
            entries = tuple(each.entry for each in running if each.entry in concerned)
            why = f"it was told to leave, not by us, and had not left after {describe(self._drain_timeout)}"
            self._acts.condemn(post, Sentence("drain-deadline", why, entries))

    # Having left

    def _mind_its_end(self, post: Post, now: float) -> None:
        """It ticks no more, and only closes what the application has opened. Should that never end, its seat would be
        lost: nobody has given it a deadline if it leaves by itself, as each quarantine process does. No execution is to
        blame, not even one that a thread still runs."""
        watch = post.watch
        if watch.left_at is None:
            watch.left_at = now
        late = now - max(self._since, watch.left_at)
        if late < self._patience:
            watch.taken = 0
        for step in self._last_ladder.due(late, watch.taken):
            watch.taken += 1
            if step is Step.DUMP:
                self._dumps.ask(post.number, post.pid, post.title, patience=HASTE)
                continue
            why = f"it had left, but its process had not ended after {describe(self._drain_timeout)}"
            self._acts.condemn(post, Sentence("drain-deadline", why))

    # Age

    def _mind_the_slow(self, post: Post, running: Sequence[InFlight], now: float) -> None:
        told = post.watch.slow
        for each in running:
            reports = hangs.slow_reports(now - each.started_at, self._slow_after)
            if reports > told.get(each.entry, 0):
                told[each.entry] = reports
                tell = partial(self._tell_slow, post.title, each, now - each.started_at)
                self._dumps.ask(post.number, post.pid, post.title, tell, quietly=True)
        if told:
            there = {each.entry for each in running}
            post.watch.slow = {entry: reports for entry, reports in told.items() if entry in there}

    def _tell_slow(self, title: str, slow: InFlight, age: float, text: str) -> None:
        if slow.thread:
            found = next((each for each in stacks.parse(text) if stacks.place_of(each) == slow.place), ())
        else:
            found = stacks.waiting(text, slow.key)
        frame = stacks.application_frame(found)
        logger.warning(
            "%s has been running for %s %s of %s%s",
            slow,
            describe(timedelta(seconds=int(age))),
            "in a thread" if slow.thread else "on the loop",
            title,
            f", at {frame}" if frame else "",
        )
