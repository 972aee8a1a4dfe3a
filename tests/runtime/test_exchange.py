"""One round trip settles, promotes and claims, whatever happens between the asking and the reply."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from docket import Docket, Worker
from docket.message import CLAIM_WIDTH, Claimed
from docket.store import scripts
from docket.store.keys import GROUP, LANES, Keys
from docket.store.scripts import Call
from docket_runtime.claims import Claims
from docket_runtime.exchange import Exchange
from docket_runtime.outage import Outage
from docket_runtime.outcomes import COMPLETED_WITH_NONE, Outcome
from docket_runtime.rounds import Brought, Settlement
from docket_runtime.scheduler import Schedule
from tests.runtime.support import Gate, finish, running, until

LIMIT = timedelta(seconds=5)


def row(entry: str, key: str, outcome: Outcome) -> Settlement:
    return (entry, key, outcome.verb, outcome.a, outcome.b)


class Crew:
    """Takes down what it is asked."""

    def __init__(self) -> None:
        self.worker_id = "w/1"
        self.begun: list[str] = []
        self.returned: list[str] = []
        self.lapses = 0

    def begin(self, claimed: Claimed) -> None:
        self.begun.append(claimed.entry)

    def return_unbegun(self, claimed: Claimed) -> None:
        self.returned.append(claimed.entry)

    def judged(self, entry: str, verdict: int) -> None: ...

    def settled(self, key: str) -> None: ...
    def superseded(self) -> None: ...

    async def heed(self, version: bytes | None) -> None:
        pass

    async def lapse(self) -> None:
        self.lapses += 1
        self.worker_id = f"w/{self.lapses + 1}"


class Ledger:
    """Answers exchanges as the script would; a test decides what happens on the way."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.script: list[Callable[[Call], Any]] = []
        self.answered: asyncio.Event | None = None

    async def ask(self, call: Call) -> Any:
        self.calls.append(call)
        await asyncio.sleep(0)
        if self.answered is not None:
            await self.answered.wait()
        if self.script:
            answer = self.script.pop(0)(call)
            if isinstance(answer, BaseException):
                raise answer
            if answer is not None:
                return answer
        if call.script is scripts.RECOVER:
            return [0, []]
        return nothing(call)


def nothing(call: Call, rows: list[Any] | None = None, lapsed: int = 0) -> list[Any]:
    settled = int(call.arguments[6])
    return [lapsed, b"1700000000000000", None, 1, 0, [1] * settled, rows or [], b""]


def a_claim(entry: str) -> list[bytes | None]:
    known = [entry.encode(), b"key", b"f", b"p", b"1", b"1"]
    return [*known, *[None] * (CLAIM_WIDTH - len(known))]


@pytest.fixture
def crew() -> Crew:
    return Crew()


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def exchange(crew: Crew, ledger: Ledger) -> Exchange:
    return Exchange(
        ledger,  # type: ignore[arg-type]
        Keys("d"),
        crew,
        Claims(5),
        Schedule(0.25),
        Outage(0.1),
        batch=100,
        free_threads=lambda: 5,
        quarantine=False,
        suspects=False,
    )


async def until_over(exchange: Exchange) -> None:
    exchange.be_quiet()
    exchange.finish()
    await asyncio.wait_for(exchange.run(), 3)


async def test_a_delivery_that_arrives_while_the_pending_list_is_read_is_not_forgotten(
    exchange: Exchange, ledger: Ledger, crew: Crew
):
    """The reader is given an entry after the script has looked at the pending list, before its reply is here."""

    def deliver_now(call: Call) -> Any:
        assert call.script is scripts.RECOVER
        exchange.deliver("d:2-0", "key")
        return [0, []]

    seen: list[str] = []

    def claims_it(call: Call) -> Any:
        seen.extend(str(argument) for argument in call.arguments)
        return nothing(call, a_claim("d:2-0"))

    ledger.script = [deliver_now, claims_it]
    exchange.reconnected()
    run = asyncio.create_task(exchange.run())
    await until(lambda: "d:2-0" in crew.begun, 2)
    assert "d:2-0" in seen
    exchange.finish()
    await asyncio.wait_for(run, 3)


async def test_settlements_that_gather_during_an_exchange_go_with_the_next(
    exchange: Exchange, ledger: Ledger
):
    def settle_more(call: Call) -> Any:
        exchange.settle(row("d:2-0", "k2", COMPLETED_WITH_NONE))
        exchange.settle(row("d:3-0", "k3", COMPLETED_WITH_NONE))
        return None

    ledger.script = [settle_more]
    exchange.settle(row("d:1-0", "k1", COMPLETED_WITH_NONE))
    await until_over(exchange)
    assert [int(call.arguments[6]) for call in ledger.calls] == [1, 2]
    assert exchange.settled


async def test_settlements_of_a_failed_exchange_are_sent_again_in_order(exchange: Exchange, ledger: Ledger):
    ledger.script = [lambda call: RedisConnectionError("gone")]
    for number in range(3):
        exchange.settle(row(f"d:{number}-0", f"k{number}", COMPLETED_WITH_NONE))
    await until_over(exchange)
    kinds = [call.script.name for call in ledger.calls]
    assert kinds == ["exchange", "recover", "exchange"]
    assert ledger.calls[0].arguments[8:] == ledger.calls[2].arguments[8:]


async def test_a_lapse_is_told_to_the_crew_and_the_next_exchange_bears_the_new_id(
    exchange: Exchange, ledger: Ledger, crew: Crew
):
    ledger.script = [lambda call: nothing(call, lapsed=1)]
    run = asyncio.create_task(exchange.run())
    await until(lambda: len(ledger.calls) >= 2)
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert crew.lapses == 1
    assert ledger.calls[-1].arguments[1] == "w/2"


async def test_more_settlements_than_fit_one_exchange_go_in_several(exchange: Exchange, ledger: Ledger):
    for number in range(1234):
        exchange.settle(row(f"d:{number}-0", "k", COMPLETED_WITH_NONE))
    await until_over(exchange)
    sent = [int(call.arguments[6]) for call in ledger.calls]
    assert sum(sent) == 1234 and max(sent) <= 500


def many(exchange: Exchange, count: int = 20) -> None:
    for number in range(count):
        exchange.settle(row(f"d:{number}-0", f"k{number}", COMPLETED_WITH_NONE))


async def test_what_has_gathered_goes_in_two_halves_of_which_the_second_does_not_wait(
    exchange: Exchange, ledger: Ledger
):
    """While the worker begins what the first half has claimed, Redis works on the second."""
    answered = asyncio.Event()
    ledger.answered = answered
    many(exchange)
    run = asyncio.create_task(exchange.run())
    await until(lambda: len(ledger.calls) == 2)
    assert [int(call.arguments[6]) for call in ledger.calls] == [10, 10]
    assert [int(call.arguments[2]) for call in ledger.calls] == [3, 2]  # nor are slots promised twice
    answered.set()
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert sum(int(call.arguments[6]) for call in ledger.calls) == 20


async def test_if_the_first_of_two_rounds_fails_both_are_sent_again(exchange: Exchange, ledger: Ledger):
    """And not before the second has come to its end: what it claims is looked for in the pending list."""
    ledger.script = [lambda call: RedisConnectionError("gone"), lambda call: nothing(call, a_claim("d:99-0"))]
    many(exchange)
    await until_over(exchange)
    kinds = [
        (call.script.name, call.arguments[6] if call.script is scripts.EXCHANGE else 0)
        for call in ledger.calls
    ]
    assert kinds == [("exchange", 10), ("exchange", 10), ("recover", 0), ("exchange", 10), ("exchange", 10)]
    assert "d:19-0" in ledger.calls[2].arguments


async def test_a_lapse_that_two_rounds_report_is_one(exchange: Exchange, ledger: Ledger, crew: Crew):
    ledger.script = [lambda call: nothing(call, lapsed=1), lambda call: nothing(call, lapsed=1)]
    many(exchange)
    await until_over(exchange)
    assert crew.lapses == 1


async def test_claims_that_come_while_quiet_go_back_unbegun(exchange: Exchange, ledger: Ledger, crew: Crew):
    def quiet_now(call: Call) -> Any:
        exchange.be_quiet()
        return nothing(call, a_claim("d:1-0"))

    ledger.script = [quiet_now]
    run = asyncio.create_task(exchange.run())
    await until(lambda: crew.returned)
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert crew.returned == ["d:1-0"] and not crew.begun


async def test_a_busy_worker_needs_few_script_calls_for_each_task(docket: Docket):
    async def brief() -> None: ...

    await docket.add_many([docket.call(brief)() for _ in range(3000)])

    async def calls() -> int:
        async with docket.redis() as redis:
            told = await redis.info("commandstats")
        return sum(told[name]["calls"] for name in ("cmdstat_evalsha", "cmdstat_eval") if name in told)

    async with Worker(docket, concurrency=100) as worker:
        before = await calls()
        await finish(worker)
        assert (await calls() - before) / 3000 <= 0.1


async def test_work_that_was_given_back_goes_first(docket: Docket):
    order: list[str] = []
    gate = Gate()

    async def note(what: str) -> None:
        order.append(what)

    async def interrupted() -> None:
        order.append("interrupted")
        await gate()

    async with running(docket, concurrency=1):
        await docket.add(interrupted)()
        await gate.has_begun()
        for number in range(5):
            await docket.add(note)(f"later {number}")
    gate.open.set()
    async with Worker(docket, concurrency=1) as worker:
        await finish(worker)
    assert order[:2] == ["interrupted", "interrupted"]
    assert order[2:] == [f"later {number}" for number in range(5)]


async def test_a_due_moment_heard_during_an_exchange_is_not_overwritten_by_its_reply(
    exchange: Exchange, ledger: Ledger
):
    """The script had run before the moment was scheduled: its "nothing is scheduled" is older than the signal."""
    due_us = 1700000000000000 + 3_600_000_000

    def hear_now(call: Call) -> Any:
        exchange._schedule.hear(due_us)
        exchange.wake()
        return nothing(call)

    ledger.script = [hear_now]
    exchange.look()
    run = asyncio.create_task(exchange.run())
    await until(lambda: ledger.calls)
    await asyncio.sleep(0.05)
    known = exchange._schedule.instant is not None
    asked_again = len(ledger.calls) > 1
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert known or asked_again


@pytest.mark.parametrize("lane", ["", "r"])
async def test_a_look_during_an_exchange_leads_to_another(exchange: Exchange, ledger: Ledger, lane: str):
    def look_now(call: Call) -> Any:
        exchange.look(lane)
        return nothing(call)

    ledger.script = [look_now]
    run = asyncio.create_task(exchange.run())
    await until(lambda: len(ledger.calls) >= 2, 1)
    exchange.finish()
    await asyncio.wait_for(run, 3)


@pytest.fixture
def lone(crew: Crew, ledger: Ledger) -> Exchange:
    """Of a worker that is alone: it takes suspects itself."""
    return Exchange(
        ledger,  # type: ignore[arg-type]
        Keys("d"),
        crew,
        Claims(5),
        Schedule(0.25),
        Outage(0.1),
        batch=100,
        free_threads=lambda: 5,
        quarantine=False,
        suspects=True,
    )


async def test_a_suspect_called_out_during_an_exchange_is_looked_for(lone: Exchange, ledger: Ledger):
    def look_now(call: Call) -> Any:
        assert call.arguments[3] == "s"
        lone.look("s")
        return nothing(call)

    ledger.script = [look_now]
    run = asyncio.create_task(lone.run())
    await until(lambda: sum(call.arguments[3] == "s" for call in ledger.calls) >= 2, 1)
    lone.finish()
    await asyncio.wait_for(run, 3)


async def test_nothing_is_claimed_beside_a_suspect_until_it_is_settled(
    lone: Exchange, ledger: Ledger, crew: Crew
):
    ledger.script = [lambda call: nothing(call, a_claim("s:1-0"))]
    run = asyncio.create_task(lone.run())
    await until(lambda: crew.begun == ["s:1-0"])
    lone.look()
    lone.settle(row("d:2-0", "k", COMPLETED_WITH_NONE))
    await until(lambda: lone.settled)
    assert lone.runs_a_suspect and [int(call.arguments[2]) for call in ledger.calls] == [1, 0]
    lone.settle(row("s:1-0", "key", COMPLETED_WITH_NONE))
    await until(lone.hungry.is_set)
    assert not lone.runs_a_suspect
    assert [call.arguments[3] for call in ledger.calls[-2:]] == [
        "s",
        LANES,
    ]  # where one was there may be more
    lone.finish()
    await asyncio.wait_for(run, 3)


async def test_a_suspect_that_has_to_wait_for_a_permit_is_not_waited_for(
    lone: Exchange, ledger: Ledger, crew: Crew
):
    """Its flight ends, and nothing of it is ever settled here."""
    ledger.script = [lambda call: nothing(call, a_claim("s:1-0"))]
    run = asyncio.create_task(lone.run())
    await until(lambda: crew.begun == ["s:1-0"])
    lone.let_wait("s:1-0")
    await until(lone.hungry.is_set, 1)
    assert not lone.runs_a_suspect
    assert [call.arguments[3] for call in ledger.calls[-2:]] == ["s", LANES]
    lone.finish()
    await asyncio.wait_for(run, 3)


async def test_what_was_delivered_and_comes_with_the_reply_for_a_suspect_is_none(
    lone: Exchange, ledger: Ledger, crew: Crew
):
    ledger.script = [lambda call: nothing(call, a_claim("d:7-0"))]
    lone.deliver("d:7-0", "key")
    run = asyncio.create_task(lone.run())
    await until(lambda: crew.begun == ["d:7-0"])
    assert ledger.calls[0].arguments[3] == "s" and not lone.runs_a_suspect
    await until(lone.hungry.is_set, 1)
    lone.finish()
    await asyncio.wait_for(run, 3)


async def test_a_suspect_that_is_found_in_the_pending_list_is_alone_as_well(
    lone: Exchange, ledger: Ledger, crew: Crew
):
    ledger.script = [lambda call: RedisConnectionError("gone"), lambda call: [0, a_claim("s:1-0")]]
    run = asyncio.create_task(lone.run())
    await until(lambda: crew.begun == ["s:1-0"])
    assert lone.runs_a_suspect
    lone.settle(row("s:1-0", "key", COMPLETED_WITH_NONE))
    await until(lone.hungry.is_set)
    assert not lone.runs_a_suspect
    lone.finish()
    await asyncio.wait_for(run, 3)


@pytest.mark.parametrize(
    ("entries", "rounds"),
    [
        (["d:7-0", "h:1-0", "h:2-0", "h:3-0"], 1),
        (["d:7-0", "h:1-0", "h:2-0", "h:3-0", "h:4-0"], 2),
        (["h:1-0", "h:2-0", "h:3-0"], 1),
        (["h:1-0", "h:2-0", "h:3-0", "h:4-0"], 2),
    ],
    ids=["fewer", "as many as were free", "fewer, none for the delivery", "as many, none for the delivery"],
)
async def test_who_was_given_as_much_as_was_asked_for_asks_for_more(
    hungry: Exchange, ledger: Ledger, crew: Crew, entries: list[str], rounds: int
):
    """Not every delivery becomes a claim: it may have gone into the line of a limit."""
    before = len(ledger.calls)
    ledger.script = [lambda call: nothing(call, [part for each in entries for part in a_claim(each)])]
    hungry.deliver("d:7-0", "key")
    await until(lambda: crew.begun == entries)
    assert int(ledger.calls[before].arguments[2]) == 4
    await until(hungry.hungry.is_set)
    assert len(ledger.calls) == before + rounds


async def test_the_one_free_slot_is_taken_from_the_reader_for_a_look_without_a_reason(
    crew: Crew, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
):
    """It hears of the main lane only, and a signal can be lost."""
    monkeypatch.setattr("docket_runtime.exchange._SAFETY_LOOK", 0.05)
    exchange = Exchange(
        ledger,  # type: ignore[arg-type]
        Keys("d"),
        crew,
        Claims(1),
        Schedule(0.25),
        Outage(0.1),
        batch=100,
        free_threads=lambda: 1,
        quarantine=False,
        suspects=False,
    )

    def unblocked() -> None:
        exchange.reading = False
        exchange.wake()

    exchange.free_the_slot_of_the_reader = unblocked
    run = asyncio.create_task(exchange.run())
    await until(exchange.hungry.is_set)
    exchange.reading = True
    before = len(ledger.calls)
    ledger.script = [lambda call: nothing(call, a_claim("h:1-0") if int(call.arguments[2]) else None)] * 20
    await until(lambda: crew.begun, 2)
    assert max(int(call.arguments[2]) for call in ledger.calls[before:]) == 1
    exchange.finish()
    await asyncio.wait_for(run, 3)


async def test_an_exchange_is_bounded_in_bytes(exchange: Exchange, ledger: Ledger):
    """Redis closes the connection of whoever sends more than a gigabyte at once, and would do so again and again."""
    megabyte = b"p" + b"x" * (1 << 20)
    for number in range(200):
        exchange.settle(row(f"d:{number}-0", "k", Outcome("completed", megabyte)))
    await until_over(exchange)
    sizes = [sum(len(each) for each in call.arguments if isinstance(each, bytes)) for call in ledger.calls]
    assert sum(size >> 20 for size in sizes) >= 200
    assert max(sizes) <= 64 << 20


# --- what the idle reader brings -------------------------------------------------------------------------------------


def brought(
    entry: str = "d:7-0",
    *rows: str,
    worker_id: str = "w/1",
    lapsed: int = 0,
    more: int = 0,
    recoveries: int = 0,
) -> Brought:
    claims = [part for each in rows or (entry,) for part in a_claim(each)]
    return Brought(worker_id, entry, "key", [lapsed, claims, more, b""], recoveries)


@pytest.fixture
async def hungry(exchange: Exchange) -> AsyncIterator[Exchange]:
    """It runs, and has found nothing."""
    run = asyncio.create_task(exchange.run())
    exchange.look()
    await until(exchange.hungry.is_set)
    yield exchange
    exchange.finish()
    await asyncio.wait_for(run, 3)


async def test_what_the_read_has_brought_begins_without_another_round(
    hungry: Exchange, ledger: Ledger, crew: Crew
):
    before = len(ledger.calls)
    hungry.accept(brought("d:7-0"))
    assert not hungry.hungry.is_set() and hungry.promised == 1 and not hungry.settled
    await until(lambda: crew.begun == ["d:7-0"])
    await until(hungry.hungry.is_set)
    assert len(ledger.calls) == before and hungry.latest == "7-0" and not hungry.promised


async def test_if_more_has_come_behind_it_that_is_looked_for(hungry: Exchange, ledger: Ledger, crew: Crew):
    before = len(ledger.calls)
    hungry.accept(brought("d:7-0", more=1))
    await until(lambda: len(ledger.calls) == before + 1)
    assert crew.begun == ["d:7-0"] and int(ledger.calls[-1].arguments[2]) > 0


async def test_what_was_called_out_during_the_read_is_looked_for(
    hungry: Exchange, ledger: Ledger, crew: Crew
):
    before = len(ledger.calls)
    hungry.look()
    hungry.accept(brought("d:7-0"))
    await until(lambda: len(ledger.calls) == before + 1)
    assert crew.begun == ["d:7-0"]


async def test_what_was_brought_and_not_claimed_is_claimed_by_name(
    hungry: Exchange, ledger: Ledger, crew: Crew
):
    """Its limits have to be asked for, or too much has come at once."""
    ledger.script = [lambda call: nothing(call, a_claim("d:7-0"))]
    hungry.accept(Brought("w/1", "d:7-0", "key", [0, [], 0, b""], 0))
    await until(lambda: crew.begun)
    assert crew.begun == ["d:7-0"] and ledger.calls[-1].arguments[-2:] == ["d:7-0", "key"]


@pytest.mark.parametrize(
    "uncertain",
    [brought("", "d:6-0"), brought("d:7-0", "d:6-0"), brought("d:6-0", recoveries=-1)],
    ids=["nothing was brought", "another was brought", "a recovery has been begun since"],
)
async def test_of_what_is_uncertain_the_pending_list_is_read(
    hungry: Exchange, ledger: Ledger, crew: Crew, uncertain: Brought
):
    """An earlier read had brought it and nobody heard, or a recovery has begun it and it has ended."""
    ledger.script = [lambda call: [0, a_claim("d:6-0")]]
    hungry.accept(uncertain)
    await until(lambda: crew.begun)
    assert crew.begun == ["d:6-0"] and hungry.recoveries == 1


async def test_what_a_recovery_has_found_is_not_claimed_again_by_name(
    exchange: Exchange, ledger: Ledger, crew: Crew, monkeypatch: pytest.MonkeyPatch
):
    """Delivered while the pending list was on its way, ended before anything else was sent."""

    def deliver_now(call: Call) -> Any:
        exchange.deliver("d:7-0", "key")
        return [0, a_claim("d:7-0")]

    def end_at_once(claimed: Claimed) -> None:
        exchange.settle(row(claimed.entry, claimed.key, COMPLETED_WITH_NONE))

    ledger.script = [deliver_now]
    monkeypatch.setattr(crew, "begin", end_at_once)
    exchange.reconnected()
    run = asyncio.create_task(exchange.run())
    await until(lambda: exchange.recoveries == 1 and exchange.settled)
    exchange.deliver("d:7-0", "key")
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert next(call.arguments[7] for call in ledger.calls if call.script is scripts.EXCHANGE) == 0


async def test_what_a_recovery_has_begun_meanwhile_is_not_begun_again(
    exchange: Exchange, ledger: Ledger, crew: Crew
):
    """The reply to the read is late: sent before, it arrives when its execution has been settled."""
    late = brought("d:7-0", recoveries=exchange.recoveries)
    ledger.script = [lambda call: [0, a_claim("d:7-0")]]
    exchange.reconnected()
    run = asyncio.create_task(exchange.run())
    await until(lambda: crew.begun == ["d:7-0"])
    exchange.settle(row("d:7-0", "key", COMPLETED_WITH_NONE))
    await until(lambda: exchange.settled)
    exchange.accept(late)
    await until(lambda: exchange.settled)
    exchange.finish()
    await asyncio.wait_for(run, 3)
    assert crew.begun == ["d:7-0"]


async def test_a_lapse_that_the_read_learns_of_is_told_once(hungry: Exchange, ledger: Ledger, crew: Crew):
    before = len(ledger.calls)
    hungry.accept(brought("d:7-0", lapsed=1))
    hungry.accept(brought("d:8-0", lapsed=1))
    hungry.accept(brought("d:9-0"))
    await until(lambda: len(ledger.calls) > before)  # under its new name it looks at once
    assert crew.lapses == 1 and crew.begun == []  # which was handed back with the old name
    assert ledger.calls[-1].arguments[1] == "w/2"


async def test_what_is_brought_to_a_quiet_worker_goes_back_unbegun(hungry: Exchange, crew: Crew):
    hungry.be_quiet()
    hungry.accept(brought("d:7-0"))
    await until(lambda: crew.returned == ["d:7-0"])
    assert not crew.begun and not hungry.hungry.is_set()


async def test_whoever_has_no_slot_left_does_not_read_on(
    hungry: Exchange, ledger: Ledger, crew: Crew, monkeypatch: pytest.MonkeyPatch
):
    claims: Any = hungry._claims
    claims._free.clear()
    claims._free.append(0)
    monkeypatch.setattr(crew, "begin", lambda claimed: claims._free.clear())
    hungry.accept(brought("d:7-0"))
    await until(lambda: not claims._free)
    await asyncio.sleep(0.02)
    assert not hungry.hungry.is_set()
    claims._free.append(0)
    before = len(ledger.calls)
    hungry.wake()
    await until(lambda: len(ledger.calls) > before)


async def test_an_idle_worker_claims_in_the_same_breath(docket: Docket, monkeypatch: pytest.MonkeyPatch):
    by_name: list[str] = []
    deliver = Exchange.deliver

    def noted(exchange: Exchange, entry: str, key: str) -> None:
        by_name.append(key)
        deliver(exchange, entry, key)

    monkeypatch.setattr(Exchange, "deliver", noted)
    ran: list[int] = []

    async def note(number: int) -> None:
        ran.append(number)

    docket.register(note)
    async with running(docket):
        await asyncio.sleep(0.1)
        for number in range(20):
            await docket.add(note)(number)
            await until(lambda number=number: ran[-1:] == [number])
    assert ran == list(range(20)) and len(by_name) <= 1  # the first, if Redis did not know the script


@pytest.mark.parametrize("shunned", [False, True])
async def test_what_may_be_put_off_is_left_to_an_exchange_which_learns_until_when(
    docket: Docket, shunned: bool
):
    """It was here before, and its task is not known here."""
    keys, worker_id = docket.keys, "w/1"
    await docket.store.ask(
        scripts.enlist(
            keys, worker_id, lease_ms=60_000, host="h", process="p", concurrency=1, tasks=["trace"]
        )
    )
    await docket.add("trace", key="k")("x")
    async with docket.redis() as redis:
        if shunned:
            await redis.hset(keys.runs("k"), "shun", worker_id)
        await redis.xreadgroup(GROUP, worker_id, {keys.stream: ">"}, count=1)
        _, rows, _, _ = await docket.store.ask(scripts.accept(keys, worker_id, "0-0"))
        state = await redis.hget(keys.runs("k"), "state")
    assert (bool(rows), state) == ((False, b"queued") if shunned else (True, b"running"))
    await docket.store.ask(scripts.hand_over(keys, worker_id, "", max_crashes=3, begun=()))
    await docket.clear()


@pytest.mark.parametrize("concurrency", [1, 2, 7])
async def test_many_that_come_at_once_while_some_run_on_are_all_begun(docket: Docket, concurrency: int):
    ran: list[int] = []

    async def note(number: int) -> None:
        if number % 5 == 0:
            await asyncio.sleep(0.03)
        ran.append(number)

    docket.register(note)
    async with running(docket, concurrency=concurrency):
        for first in range(0, 120, 12):
            await docket.add_many([docket.call(note)(number) for number in range(first, first + 11)])
            await asyncio.sleep(0.01)
            await docket.add(note)(first + 11)
            await asyncio.sleep(0.02)
        await until(lambda: len(ran) == 120, 10)
    assert sorted(ran) == list(range(120))
