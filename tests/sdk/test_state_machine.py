"""Random histories of one docket against a model: keys, generations, never two bodies of one key, and limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chaos.leftovers import leftovers, remove
from docket.message import Claimed, parse_claims
from docket.store import scripts
from docket.store.blocking import run_script
from docket.store.keys import GROUP, Keys
from docket.store.scripts import Call

KEYS = st.sampled_from(["a", "b", "c", "d", "stream", "runs:a"])
WORKERS = st.sampled_from([0, 1])
FAR = 9_000_000_000_000_000
TTL = st.sampled_from([0, 60_000])
MOST = {"L": 1, "M": 2, "N": 1}
LIMITS = st.sampled_from(["", "", "L", "M", "LM", "ML", "NM", "LN", "LMN"])
OUTCOMES = st.sampled_from(
    [
        *("completed", "failed", "retry", "retry later", "cancelled", "interrupted", "returned"),
        *("dead", "again", "again later", "held"),
    ]
)
LATE_OUTCOMES = st.sampled_from(["completed", "failed", "retry", "interrupted", "cancelled", "perpetuate"])
VERBS = st.sampled_from(
    [
        *("settle", "settle", "settle", "claim", "claim", "chain", "replace", "cancel", "evacuate", "die"),
        *("lapse", "wake", "wake", "retry the dead", "restore", "recover", "promote", "read"),
    ]
)
LANES_OF_CALLS = st.sampled_from(["", "", "h", "l"])


def in_words(limits: str) -> str:
    return json.dumps([["c", name, MOST[name], "queue", ""] for name in limits]) if limits else ""


class Life:
    """What the model knows of one key: what is to run next, and which body is in somebody's hands."""

    def __init__(self) -> None:
        self.waiting: int | None = None  # the generation that waits: parked, in line, or for an earlier body
        self.parked = False
        self.running: int | None = None  # the generation of the body that runs
        self.counts = False  # whether that body's outcome still counts
        self.permits = ""  # the limits of that body
        self.crashes = 0
        self.dead = False
        self.held: str | None = None  # the rule that holds what waits

    @property
    def taken(self) -> bool:
        return self.waiting is not None or (self.running is not None and self.counts)


class Ledger(RuleBasedStateMachine):
    client: Any
    name: str

    @initialize()
    def begin(self) -> None:
        remove(self.client, self.name)
        self.keys = Keys(self.name)
        self.lives: dict[str, Life] = {}
        self.held: dict[int, list[Claimed]] = {0: [], 1: []}
        self.gone: list[tuple[int, str, str]] = []
        self.zombies: list[tuple[str, list[Claimed]]] = []
        self.rules: list[str] = []
        self.version = b""
        self.last_generation = 0
        self.requests = 0
        self.incarnation = [0, 0]
        for worker in (0, 1):
            self.enlist(worker)

    def enlist(self, worker: int) -> None:
        self.ask(
            scripts.enlist(
                self.keys,
                self.id_of(worker),
                lease_ms=600_000,
                host="h",
                process="p",
                concurrency=9,
                tasks=("f",),
            )
        )

    def id_of(self, worker: int) -> str:
        return f"w{worker}/{self.incarnation[worker]}"

    def ask(self, call: Call) -> Any:
        return run_script(self.client, call)

    def life(self, key: str) -> Life:
        return self.lives.setdefault(key, Life())

    # --- clients ---------------------------------------------------------------------------------------------------

    def schedule(
        self, verb: str, key: str, later: bool, ttl: int, inside: str = "", limits: str = "", lane: str = ""
    ) -> tuple[bytes, int]:
        self.requests += 1
        when = FAR if later else None
        row: Any = (verb, key, "f", b"body", when, ttl, inside, self.requests, in_words(limits), lane)
        (reply,) = self.ask(scripts.schedule(self.keys, [row], self.version))
        (again,) = self.ask(scripts.schedule(self.keys, [row], self.version))
        assert again == reply, "the same request sent twice is not the same as sent once"
        return reply[0], int(reply[1] or 0)

    def scheduled(self, key: str, generation: int, later: bool) -> None:
        assert generation > self.last_generation
        self.last_generation = generation
        life = self.life(key)
        life.waiting, life.parked, life.counts = generation, later, False
        life.crashes, life.dead, life.held = 0, False, None

    @rule(key=KEYS, later=st.booleans(), ttl=TTL, limits=LIMITS, lane=LANES_OF_CALLS)
    def add(self, key: str, later: bool, ttl: int, limits: str, lane: str) -> None:
        disposition, generation = self.schedule("add", key, later, ttl, "", limits, lane)
        if self.life(key).taken:
            assert disposition == b"already"
        else:
            assert disposition == b"scheduled"
            self.scheduled(key, generation, later)

    @rule(key=KEYS, later=st.booleans(), ttl=TTL, limits=LIMITS)
    def replace(self, key: str, later: bool, ttl: int, limits: str) -> None:
        disposition, generation = self.schedule("replace", key, later, ttl, "", limits)
        assert disposition == b"scheduled"
        self.scheduled(key, generation, later)

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4), limits=LIMITS, worker=WORKERS)
    def add_some_and_claim(self, keys: list[str], limits: str, worker: int) -> None:
        """What all else is about: without it most histories would be of nothing."""
        for key in keys:
            self.add(key, False, 60_000, limits, "")
        self.exchange(worker, len(keys))

    @precondition(lambda self: any(life.taken for life in self.lives.values()))
    @rule(key=KEYS)
    def cancel(self, key: str) -> None:
        self.ask(scripts.cancel(self.keys, key))
        life = self.life(key)
        life.waiting, life.counts, life.held = None, False, None

    @precondition(lambda self: len(self.rules) < 2)
    @rule()
    def strike_and_hold(self) -> None:
        """A rule that holds what its worker finds to be struck by it."""
        about = ("f", "p", "==", "1", b"value")
        self.version = self.ask(scripts.strike(self.keys, self.version, [], about))
        self.rules.append(self.ask(scripts.strikes(self.keys))[1][-1][0].decode())

    @precondition(lambda self: self.rules)
    @rule()
    def restore(self) -> None:
        lifted = self.rules.pop(0)
        self.version = self.ask(scripts.strike(self.keys, self.version, [lifted], None))
        for key, life in self.lives.items():
            if life.held == lifted:
                life.held = None
                life.parked = self.client.zscore(self.keys.queue, key) >= FAR

    @precondition(lambda self: any(life.dead for life in self.lives.values()))
    @rule(key=KEYS)
    def retry_what_is_dead(self, key: str) -> None:
        life = self.life(key)
        assert self.ask(scripts.retry_dead(self.keys, key)) == int(life.dead)
        if life.dead:
            generation = int(self.client.hget(self.keys.runs(key), "generation"))
            life.waiting, life.parked, life.dead, life.crashes = generation, False, False, 0

    @precondition(lambda self: any(life.dead for life in self.lives.values()))
    @rule(key=KEYS)
    def purge_what_is_dead(self, key: str) -> None:
        assert self.ask(scripts.purge_dead(self.keys, [key])) == int(self.life(key).dead)
        self.life(key).dead = False

    @precondition(lambda self: sum(life.waiting is not None for life in self.lives.values()) > 2)
    @rule()
    def clear(self) -> None:
        cursor, cleared = scripts.CLEAR_FROM, 0
        while cursor:
            count, following = self.ask(scripts.clear(self.keys, cursor, 2))
            cleared += count
            cursor = following.decode()
        waiting = [life for life in self.lives.values() if life.waiting is not None]
        assert cleared == len(waiting)
        for life in waiting:
            life.waiting, life.held = None, None

    @rule(key=KEYS)
    def its_moment_comes(self, key: str) -> None:
        """A parked execution is due now."""
        if self.client.zscore(self.keys.queue, key) is not None:
            self.client.zadd(self.keys.queue, {key: 1})
            self.life(key).parked = False

    # --- workers ---------------------------------------------------------------------------------------------------

    def exchange(
        self,
        worker: int,
        free: int,
        settlements: list[tuple[Any, ...]] | None = None,
        deliveries: list[tuple[str, str]] | None = None,
    ) -> list[int]:
        reply = self.ask(
            scripts.exchange(
                self.keys,
                self.id_of(worker),
                free=free,
                lanes="rhdls",
                promote_most=100,
                census=True,
                settlements=settlements or [],
                deliveries=deliveries or [],
            )
        )
        lapsed, verdicts, rows = reply[0], reply[5], reply[6]
        assert not lapsed
        self.begins(worker, rows)
        return verdicts

    def begins(self, worker: int, rows: list[Any]) -> None:
        for claimed in parse_claims(rows):
            life = self.life(claimed.key)
            assert life.running is None, "two bodies of one key at the same time"
            assert claimed.generation == life.waiting and not life.parked and life.held is None
            life.running, life.waiting, life.counts = claimed.generation, None, True
            life.permits = "".join(row[1] for row in json.loads((claimed.admission or "=[]")[1:]))
            self.held[worker].append(claimed)

    @rule(worker=WORKERS, knows=st.booleans())
    def read(self, worker: int, knows: bool) -> None:
        """As an idle worker does: one of the main lane, and right behind it the script that claims what it brings."""
        held = [each.entry[2:] for each in self.held[worker] if each.entry[0] == "d"]
        since = max(held, key=lambda entry: [int(part) for part in entry.split("-")], default="0-0")
        given = self.client.xreadgroup(GROUP, self.id_of(worker), {self.keys.stream: ">"}, count=1)
        lapsed, rows, more, _ = self.ask(
            scripts.accept(self.keys, self.id_of(worker), since if knows else "0-0")
        )
        entries = [each.entry for each in parse_claims(rows)]
        if not given:
            assert not lapsed and entries == []
            return
        entry, fields = given[0][1][0]
        brought = f"d:{entry.decode()}"
        assert not lapsed and entries in ([], [brought])
        waits = (
            self.client.xinfo_groups(self.keys.stream)[0]["last-delivered-id"]
            != (self.client.xinfo_stream(self.keys.stream)["last-generated-id"])
        )
        assert more or not waits or (not knows and not entries)
        self.begins(worker, rows)
        if not entries:
            self.exchange(worker, 0, deliveries=[(brought, fields[b"k"].decode())])

    @rule(worker=WORKERS, free=st.integers(1, 3))
    def claim(self, worker: int, free: int) -> None:
        self.exchange(worker, free)

    @precondition(lambda self: any(self.held.values()))
    @rule(
        data=st.data(),
        outcome=OUTCOMES,
    )
    def settle(self, data: st.DataObject, outcome: str) -> None:
        worker = data.draw(st.sampled_from([number for number, held in self.held.items() if held]))
        claimed = self.held[worker].pop(data.draw(st.integers(0, len(self.held[worker]) - 1)))
        rows = {
            "completed": ("completed", b"", b""),
            "failed": ("failed", "Error: x", b"px"),
            "retry": ("retry", 0, ""),
            "retry later": ("retry", 3_600_000_000, ""),
            "cancelled": ("cancelled", "", ""),
            "interrupted": ("interrupted", "", ""),
            "returned": ("returned", "", ""),
            "dead": ("dead", "cause", ""),
            "again": ("perpetuate", 0, b"body"),
            "again later": ("perpetuate", 3_600_000_000, b"body"),
            "held": ("held", self.rules[0] if self.rules else "1-1", ""),
        }
        settlement = (claimed.entry, claimed.key, *rows[outcome])
        life = self.life(claimed.key)
        counted = life.counts
        life.running, life.counts = None, False
        if counted and outcome in ("retry", "interrupted", "returned", "retry later", "held"):
            life.waiting, life.parked = claimed.generation, outcome == "retry later"
            life.held = self.rules[0] if outcome == "held" and self.rules else None
        if counted and outcome not in ("interrupted", "returned", "held"):
            life.crashes = 0
        life.dead = life.dead or (counted and outcome == "dead")
        (verdict,) = self.exchange(worker, 0, [settlement])
        assert verdict == (1 if counted else 2)
        if counted and outcome in ("again", "again later"):
            generation = int(self.client.hget(self.keys.runs(claimed.key), "generation"))
            self.scheduled(claimed.key, generation, outcome == "again later")
        self.gone.append((worker, claimed.entry, claimed.key))
        (again,) = self.exchange(worker, 0, [settlement])
        assert again == 0, "a settlement sent twice counted twice"

    @precondition(lambda self: self.gone)
    @rule(data=st.data(), worker=WORKERS)
    def settle_what_is_settled(self, data: st.DataObject, worker: int) -> None:
        _, entry, key = data.draw(st.sampled_from(self.gone[-5:]))
        assert self.exchange(worker, 0, [(entry, key, "completed", b"pwrong", b"")]) == [0]

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data(), later=st.booleans(), ttl=TTL)
    def chain(self, data: st.DataObject, later: bool, ttl: int) -> None:
        """A running body adds its own key."""
        claimed = data.draw(st.sampled_from([each for held in self.held.values() for each in held]))
        life = self.life(claimed.key)
        disposition, generation = self.schedule("add", claimed.key, later, ttl, claimed.entry)
        if life.waiting is not None:
            assert disposition == b"already"
        else:
            assert disposition == b"scheduled"
            self.scheduled(claimed.key, generation, later)

    @rule(worker=WORKERS)
    def recover(self, worker: int) -> None:
        held = [each.entry for each in self.held[worker]]
        lapsed, rows = self.ask(scripts.recover(self.keys, self.id_of(worker), held))
        assert not lapsed and rows == []

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=WORKERS)
    def forget_and_recover(self, worker: int) -> None:
        """The replies to all claims were lost: no body runs; the worker is told again of what still counts."""
        held = self.held[worker]
        counts = [each for each in held if self.life(each.key).counts]
        lapsed, rows = self.ask(scripts.recover(self.keys, self.id_of(worker), []))
        assert not lapsed
        assert {each.entry for each in parse_claims(rows)} == {each.entry for each in counts}
        for claimed in held:
            if claimed not in counts:
                self.life(claimed.key).running = None
        self.held[worker] = counts

    @precondition(lambda self: any(self.held.values()))
    @rule(
        worker=WORKERS, begun=st.sampled_from(["unknown", "none", "all"]), most=st.sampled_from([1, 2, 100])
    )
    def die(self, worker: int, begun: str, most: int) -> None:
        """Everything it held is in line again, or was running once too often."""
        held = self.held[worker]
        known = {"unknown": None, "none": [], "all": [each.entry for each in held]}[begun]
        reply = self.ask(
            scripts.hand_over(self.keys, self.id_of(worker), "died", max_crashes=most, begun=known)
        )
        self.taken_from(worker, held, most, crashed=begun != "none", dead=reply[3])

    @precondition(lambda self: any(self.held.values()))
    @rule(worker=WORKERS, most=st.sampled_from([1, 2, 100]))
    def lapse(self, worker: int, most: int) -> None:
        """It has been silent for too long, and knows nothing of it: its bodies go on."""
        self.client.zadd(self.keys.workers, {self.id_of(worker): 1})
        ((_, _, _, dead),) = self.ask(scripts.sweep(self.keys, most))
        assert self.ask(scripts.renew(self.keys, [self.id_of(worker)], 600_000)) == [0]
        self.zombies.append((self.id_of(worker), list(self.held[worker])))
        self.taken_from(worker, self.held[worker], most, crashed=True, dead=dead)

    def taken_from(
        self, worker: int, held: list[Claimed], most: int, *, crashed: bool, dead: list[bytes]
    ) -> None:
        found: set[bytes] = set()
        for claimed in held:
            life = self.life(claimed.key)
            if life.counts:
                life.crashes += crashed
                life.dead = crashed and life.crashes >= most
                life.waiting, life.parked = None if life.dead else claimed.generation, False
                found |= {claimed.key.encode()} if life.dead else set()
            life.running, life.counts = None, False
            self.gone.append((worker, claimed.entry, claimed.key))
        assert set(dead) == found
        self.held[worker] = []
        self.incarnation[worker] += 1
        self.enlist(worker)

    @precondition(lambda self: self.zombies)
    @rule(
        data=st.data(),
        outcome=LATE_OUTCOMES,
    )
    def a_zombie_wakes_up(self, data: st.DataObject, outcome: str) -> None:
        """Whatever it says, and whatever it asks for: nothing of it counts, and nothing is given to it."""
        name, held = data.draw(st.sampled_from(self.zombies))
        a, b = ("wrong", "pwrong") if outcome not in ("retry", "perpetuate") else (0, "")
        asked = scripts.exchange(
            self.keys, name, free=9, lanes="rhdls", promote_most=0, census=False,
            settlements=[(each.entry, each.key, outcome, a, b) for each in held], deliveries=[],
        )  # fmt: skip
        reply = self.ask(asked)
        assert (reply[0], reply[5], reply[6]) == (1, [0] * len(held), [])
        assert self.ask(scripts.recover(self.keys, name, [])) == [1, []]
        for each in held:
            assert (
                self.ask(scripts.progress(self.keys, each.key, each.entry, "increment", 1, "0" * 16)) is None
            )

    @precondition(lambda self: any(self.held.values()))
    @rule(data=st.data())
    def evacuate(self, data: st.DataObject) -> None:
        """A stuck worker keeps what it has begun, and stays on the roll."""
        worker = data.draw(st.sampled_from([number for number, held in self.held.items() if held]))
        held = self.held[worker]
        begun = [each for each in held if data.draw(st.booleans())]
        self.ask(scripts.evacuate(self.keys, self.id_of(worker), [each.entry for each in begun]))
        for claimed in held:
            if claimed in begun:
                continue
            life = self.life(claimed.key)
            if life.counts:
                life.waiting, life.parked = claimed.generation, False
            life.running, life.counts = None, False
            self.gone.append((worker, claimed.entry, claimed.key))
        self.held[worker] = begun

    @rule(data=st.data(), verbs=st.lists(VERBS, min_size=4, max_size=16))
    def all_kinds_of_things_happen_to_what_runs(self, data: st.DataObject, verbs: list[str]) -> None:
        """Hypothesis chooses among rules as it likes, and would seldom come to those that need something to run."""
        for verb in verbs:
            worker, key = data.draw(WORKERS), data.draw(KEYS)
            if not self.held[worker]:
                self.add_some_and_claim([data.draw(KEYS) for _ in range(3)], data.draw(LIMITS), worker)
            match verb:
                case "settle" if any(self.held.values()):
                    self.settle(data, data.draw(OUTCOMES))
                case "chain" if any(self.held.values()):
                    self.chain(data, data.draw(st.booleans()), 60_000)
                case "evacuate" if any(self.held.values()):
                    self.evacuate(data)
                case "replace":
                    self.replace(key, data.draw(st.booleans()), 60_000, data.draw(LIMITS))
                case "cancel":
                    self.cancel(key)
                case "die":
                    self.die(worker, data.draw(st.sampled_from(["unknown", "none", "all"])), 2)
                case "lapse":
                    self.lapse(worker, data.draw(st.sampled_from([1, 2, 100])))
                case "wake" if self.zombies:
                    self.a_zombie_wakes_up(data, data.draw(LATE_OUTCOMES))
                case "retry the dead":
                    self.retry_what_is_dead(key)
                case "restore" if self.rules:
                    self.restore()
                case "recover":
                    self.forget_and_recover(worker)
                case "promote":
                    self.its_moment_comes(key)
                case "read":
                    self.read(worker, data.draw(st.booleans()))
                case _:
                    self.claim(worker, 3)
            self.records_say_what_the_model_says()
            self.the_streams_hold_what_waits_or_runs_and_nothing_else()
            self.no_limit_is_exceeded_and_who_runs_holds_its_permits()

    # --- what always holds -------------------------------------------------------------------------------------------

    @invariant()
    def every_key_has_an_owner(self) -> None:
        """A cancelled record is owned by its body for as long as that runs."""
        if hasattr(self, "keys"):
            bodies = [key for key, life in self.lives.items() if life.running is not None]
            left = [
                each
                for each in leftovers(self.client, self.name)
                if each.split(" (")[0].split(":runs:", 1)[1] not in bodies
            ]
            assert left == []

    @invariant()
    def the_streams_hold_what_waits_or_runs_and_nothing_else(self) -> None:
        if not hasattr(self, "keys"):
            return
        in_line = sum(self.client.xlen(self.keys.lane(lane)) for lane in "dhlrs")
        running = sum(life.running is not None for life in self.lives.values())
        parked = self.client.zcard(self.keys.queue)
        deferred = self.client.scard(self.keys.deferred)
        deferred += sum(self.client.zcard(self.keys.waiting(limit)) for limit in MOST)
        deferred += sum(self.client.zcard(self.keys.held(rule)) for rule in self.rules)
        waiting = sum(life.waiting is not None for life in self.lives.values())
        assert in_line - running + parked + deferred == waiting

    @invariant()
    def no_limit_is_exceeded_and_who_runs_holds_its_permits(self) -> None:
        if not hasattr(self, "keys"):
            return
        for limit, most in MOST.items():
            holders = {key.decode() for key in self.client.smembers(self.keys.concurrency(limit))}
            running = {key for key, life in self.lives.items() if life.running and limit in life.permits}
            assert running <= holders and len(holders) <= most
            for key in holders - running:  # admitted, and next in line
                assert self.client.hget(self.keys.runs(key), "state") == b"queued"

    @invariant()
    def nobody_waits_for_what_nobody_holds(self) -> None:
        """As long as somebody stands in a line, somebody holds a permit that will be given back."""
        if hasattr(self, "keys"):
            waiting = sum(self.client.zcard(self.keys.waiting(limit)) for limit in MOST)
            held = sum(self.client.scard(self.keys.concurrency(limit)) for limit in MOST)
            assert not waiting or held

    @invariant()
    def records_say_what_the_model_says(self) -> None:
        for key, life in getattr(self, "lives", {}).items():
            state, generation = self.client.hmget(self.keys.runs(key), "state", "generation")
            if life.waiting is not None:
                assert state in (b"queued", b"scheduled") and int(generation) == life.waiting
            elif life.counts:
                assert state == b"running" and int(generation) == life.running
            else:
                assert state in (None, b"completed", b"failed", b"cancelled")
            assert (self.client.zscore(self.keys.dead, key) is not None) == life.dead

    def teardown(self) -> None:
        if not hasattr(self, "keys"):
            return
        while self.rules:
            self.restore()
        for worker in (0, 1):
            self.die(worker, "none", 100)
        for _ in range(40):
            for worker in (0, 1):
                self.exchange(worker, 50)
                held, self.held[worker] = self.held[worker], []
                for claimed in held:
                    self.life(claimed.key).running = None
                    self.exchange(worker, 0, [(claimed.entry, claimed.key, "completed", b"", b"")])
        for life in self.lives.values():
            assert life.waiting is None or life.parked, "something that was due never ran"


@pytest.fixture
def machine(docket_name: str, redis_server: Any) -> Iterator[type[Ledger]]:
    with redis.Redis(unix_socket_path=redis_server.socket_path) as client:
        yield type("Ledger", (Ledger,), {"client": client, "name": docket_name})
        remove(client, docket_name)


def test_any_history_keeps_the_promises(machine: type[Ledger]):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.filter_too_much,
                HealthCheck.data_too_large,
            ],
        ),
    )
