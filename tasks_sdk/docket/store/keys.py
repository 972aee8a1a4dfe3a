"""Every key and channel that a docket uses in Redis; the docstrings are the catalogue.

The scripts derive the same names from the prefix (`lua/_house.lua`). User text always follows a fixed word, so that
no task key, task name or worker name can touch a key of ours.
"""

from __future__ import annotations

import re
import zlib

from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

GROUP = "docket-workers"
LANES = "rhdl"
"""The lanes in the order in which every worker serves them: redelivered work goes first, then by priority."""
LANES_FROM_BELOW = "LDrhdl"
"""The same, but first one execution (a capital: at most one) of each lane that could otherwise starve."""
SUSPECTS = "s"


KINDS = {
    "stream": "stream",
    "queue": "zset",
    "runs": "hash",
    "results": "string",
    "progress": "hash",
    "generations": "string",
    "deferred": "set",
    "dead": "zset",
    "orphans": "set",
    "workers": "zset",
    "worker": "hash",
    "tasks": "set",
    "known": "set",
    "answers": "string",
    "timekeeper": "string",
    "strikes": "stream",
    "held": "zset",
    "lifted": "set",
    "concurrency": "set",
    "waiting": "zset",
    "throttled": "zset",
    "limits": "set",
    "maximums": "hash",
    "limited": "set",
    "alarms": "zset",
    "waiters": "string",
    "unasked": "set",
    "rates": "zset",
    "cooldowns": "string",
    "debounces": "string",
    "partitions": "string",
}
"""Word → what kind of value lies at the keys that begin with it."""

_PARTITION = "partition"

_FIXED = frozenset({*KINDS, "state", "signals", "nowhere", _PARTITION})


class Keys:
    """The names of one docket. On a cluster the prefix stands in braces, so that all lie in one hash slot.

    So it does if the name itself looks like a key of another docket's: `shop:runs` beside `shop`.
    """

    def __init__(self, name: str, *, clustered: bool = False) -> None:
        ambiguous = not _FIXED.isdisjoint(name.split(":")[1:])
        self.prefix = f"{{{name}}}" if clustered or ambiguous else name

    @property
    def stream(self) -> str:
        """stream · what is due: key and generation. Written by schedule, promote, retry; an entry goes when its
        execution is settled. Lane `d`."""
        return f"{self.prefix}:stream"

    @property
    def high(self) -> str:
        """stream · what is due and has high priority. Lane `h`."""
        return f"{self.prefix}:stream:high"

    @property
    def low(self) -> str:
        """stream · what is due and has low priority. Lane `l`."""
        return f"{self.prefix}:stream:low"

    @property
    def redelivered(self) -> str:
        """stream · what somebody had claimed and gave back, and what a limit has admitted; goes first. Lane `r`."""
        return f"{self.prefix}:stream:redelivered"

    @property
    def suspects(self) -> str:
        """stream · what was running when its worker died; each is run alone. Lane `s`."""
        return f"{self.prefix}:stream:suspects"

    def lane(self, lane: str) -> str:
        return {
            "d": self.stream,
            "h": self.high,
            "l": self.low,
            "r": self.redelivered,
            SUSPECTS: self.suspects,
        }[lane]

    @property
    def queue(self) -> str:
        """zset · the future: key by due time in microseconds. Written by schedule and retry, emptied by promote."""
        return f"{self.prefix}:queue"

    def runs(self, key: str) -> str:
        """hash · the record of an execution. Lives while the execution does, then for `execution_ttl`; a dead letter's
        stays until it is retried or purged."""
        return f"{self.prefix}:runs:{key}"

    def results(self, key: str) -> str:
        """string · the result or the exception; expires with the record."""
        return f"{self.prefix}:results:{key}"

    @property
    def results_collection(self) -> str:
        """none of Redis's · the collection of a result storage of the user's that holds this docket's results."""
        return f"{self.prefix}:results"

    def progress(self, key: str) -> str:
        """hash · progress of a running execution; deleted when that run ends or is given to another worker."""
        return f"{self.prefix}:progress:{key}"

    @property
    def deferred(self) -> str:
        """set · keys that are due but wait for an earlier body of the same key to end; settlement empties it."""
        return f"{self.prefix}:deferred"

    @property
    def dead(self) -> str:
        """zset · dead letters: key by the moment they were set aside, in microseconds."""
        return f"{self.prefix}:dead"

    def orphans(self, task: str) -> str:
        """set · dead letters that only lack a worker knowing this task; emptied when one enlists."""
        return f"{self.prefix}:orphans:{task}"

    @property
    def generations(self) -> str:
        """string · the last generation given to any execution of this docket; never expires."""
        return f"{self.prefix}:generations"

    @property
    def workers(self) -> str:
        """zset · the roll: worker id by the moment its lease lapses, in milliseconds of Redis's clock."""
        return f"{self.prefix}:workers"

    def worker(self, worker_id: str) -> str:
        """hash · host, process, lease, tasks of one worker; deleted when it leaves or its lease lapses."""
        return f"{self.prefix}:worker:{worker_id}"

    def tasks(self, worker_id: str) -> str:
        """set · the tasks that this worker knows; goes as its hash does, at once however many they are."""
        return f"{self.prefix}:tasks:{worker_id}"

    @property
    def known(self) -> str:
        """set · every task name that a worker ever enlisted with; never expires, grows only with the code."""
        return f"{self.prefix}:known"

    @property
    def timekeeper(self) -> str:
        """string · the worker that wakes exactly at the next due time; expires after a minute."""
        return f"{self.prefix}:timekeeper"

    @property
    def strikes(self) -> str:
        """stream · the rules of what must not run: those in effect and no others. Read whole by whoever judges by an
        older version of it."""
        return f"{self.prefix}:strikes"

    def held(self, rule: str) -> str:
        """zset · what the rule of this id holds: key by due time in microseconds. Written when a claim is settled as
        held; goes to the queue when the rule is lifted."""
        return f"{self.prefix}:held:{rule}"

    @property
    def lifted(self) -> str:
        """set · the ids of rules that are no more, and of which not all that they held is in the queue yet."""
        return f"{self.prefix}:lifted"

    def concurrency(self, limit: str) -> str:
        """set · the keys of the executions that hold a permit of this limit; SCARD tells how many."""
        return f"{self.prefix}:concurrency:{limit}"

    def waiting(self, limit: str) -> str:
        """zset · the executions that this limit does not admit yet: key by priority and order of arrival."""
        return f"{self.prefix}:waiting:{limit}"

    def throttled(self, limit: str) -> str:
        """zset · the executions that this rate limit does not admit yet, like `waiting`."""
        return f"{self.prefix}:throttled:{limit}"

    @property
    def limits(self) -> str:
        """set · the concurrency limits that somebody holds or waits for; the last to leave takes it out."""
        return f"{self.prefix}:limits"

    @property
    def maximums(self) -> str:
        """hash · limit (or what all limits of one statement have in common) by the number that an operator has set in
        place of the one in the code; stays until it is reset."""
        return f"{self.prefix}:maximums"

    def answers(self, request: str) -> str:
        """string · what a request was answered that must not take place twice (clear, a limit's maximum, dead letters
        retried or purged, time travel), should it be sent again because the reply was lost; expires after a minute."""
        return f"{self.prefix}:answers:{request}"

    @property
    def limited(self) -> str:
        """set · the tasks that state a limit, as workers say when they enlist; grows only with the code."""
        return f"{self.prefix}:limited"

    @property
    def alarms(self) -> str:
        """zset · the rate limits that somebody waits for, by the moment when the first of them may be admitted."""
        return f"{self.prefix}:alarms"

    @property
    def waiters(self) -> str:
        """string · how many wait for a limit; goes with the last of them."""
        return f"{self.prefix}:waiters"

    @property
    def unasked(self) -> str:
        """set · limits (`c:` or `r:` and the name) whose lines a script had no time for; the next exchange has."""
        return f"{self.prefix}:unasked"

    def rates(self, limit: str) -> str:
        """zset · the starts in the window of a rate limit: delivery by its moment, and notes (`1200:WINDOW`, below
        zero) of how many are counted; expires with the window."""
        return f"{self.prefix}:rates:{limit}"

    def cooldowns(self, name: str) -> str:
        """string · the generation whose run has opened this cooldown, or `12?KEY` if it is let in and has not begun;
        expires when it is over."""
        return f"{self.prefix}:cooldowns:{name}"

    def debounces(self, name: str) -> str:
        """string · the latest call that is being debounced; deleted when it is admitted, or expires."""
        return f"{self.prefix}:debounces:{name}"

    @property
    def partitions(self) -> str:
        """string · into how many partitions this docket is split, if it is; written before anything else is, never
        expires. All other keys of such a docket begin as `partition_of` says."""
        return f"{self.prefix}:partitions"

    @property
    def nowhere(self) -> str:
        """none · never exists: what a script asks for to learn that the slot is not being moved to another node."""
        return f"{self.prefix}:nowhere"

    def state_channel(self, key: str) -> str:
        """channel · state events of one execution, in the documented JSON."""
        return f"{self.prefix}:state:{key}"

    def progress_channel(self, key: str) -> str:
        """channel · progress events of one execution, in the documented JSON."""
        return f"{self.prefix}:progress:{key}"

    def marks(self, observer: str) -> str:
        """channel · where one observer's look at an execution stands among the events that the observer hears."""
        return f"{self.prefix}:marks:{observer}"

    @property
    def signals(self) -> str:
        """channel · `due:MICROSECONDS`: due earlier than anybody knew; `look:LANE`: something lies there."""
        return f"{self.prefix}:signals"

    def signals_of(self, worker_id: str) -> str:
        """channel · `stop:ENTRY`: the body of that delivery shall stop."""
        return f"{self.prefix}:signals:{worker_id}"


def with_prefix(prefix: str) -> Keys:
    """Those that begin like this."""
    keys = Keys("")
    keys.prefix = prefix
    return keys


def name_in(raw: bytes) -> str:
    """A name as Redis has it: others may have written one that is no text. It goes back as the same bytes."""
    return raw.decode(errors="surrogateescape")


def raw_name(name: str) -> bytes:
    """What `name_in` has made of it, as it was."""
    return name.encode(errors="surrogateescape")


def place_of(key: str, partitions: int) -> int:
    """In which of so many partitions an execution of this key lies: the same wherever and whenever it is asked."""
    return zlib.crc32(raw_name(key)) % partitions


def partition_of(name: str, number: int, partitions: int) -> Keys:
    """The names of one partition, in a hash slot of their own. They begin like those of no undivided docket.

    The slots of all partitions lie apart by equal steps, each well within its share of all slots: so on nodes that have
    equal shares, which is how clusters are made, as many partitions as nodes lie on a node each.
    """
    salt = 0
    while True:
        keys = with_prefix(f"{{{number}.{salt}:{name}}}:{_PARTITION}")
        share, within = divmod(key_slot(keys.stream.encode()) * partitions, REDIS_CLUSTER_HASH_SLOTS)
        if share == number and 1 <= within * 4 // REDIS_CLUSTER_HASH_SLOTS <= 2:
            return keys
        salt += 1


def name_behind(prefix: str) -> str:
    """The name of the docket whose keys begin like this."""
    found = re.fullmatch(rf"\{{\d+\.\d+:(.*)\}}:{_PARTITION}", prefix, re.DOTALL)
    if found is not None:
        return found[1]
    return prefix[1:-1] if prefix.startswith("{") and prefix.endswith("}") else prefix


def kind_of(key: str) -> str | None:
    """What docket keeps at this key; None if it is none of a docket's. Names of dockets may hold colons."""
    return next((KINDS[word] for word in key.split(":")[1:] if word in KINDS), None)


def singles(keys: Keys) -> list[str]:
    """The keys of which a docket has one each."""
    lanes = [keys.lane(lane) for lane in (*LANES, SUSPECTS)]
    one_each = [
        keys.queue,
        keys.deferred,
        keys.dead,
        keys.generations,
        keys.workers,
        keys.known,
        keys.timekeeper,
    ]
    of_limits = [keys.limits, keys.maximums, keys.limited, keys.alarms, keys.waiters, keys.unasked]
    return [*lanes, *one_each, keys.strikes, keys.lifted, *of_limits, keys.partitions]


def of_text(keys: Keys, text: str) -> list[str]:
    """The keys that end in a text of the user's or an id of ours: one of each kind that there can be many of."""
    return [
        *(keys.runs(text), keys.results(text), keys.progress(text), keys.orphans(text), keys.worker(text)),
        *(
            keys.tasks(text),
            keys.held(text),
            keys.concurrency(text),
            keys.waiting(text),
            keys.throttled(text),
        ),
        *(keys.answers(text), keys.rates(text), keys.cooldowns(text), keys.debounces(text)),
    ]
