"""Whoever can write to Redis, and has no signing key, gets nothing loaded: not on workers, not on clients."""

from __future__ import annotations

import pickle
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from docket import DeadLetter, Docket, ExecutionCancelled, Perpetual, Retry, TaskFailed
from docket.context import current_execution
from docket.errors import CannotStore, Untrusted
from docket.payload import Door
from docket.sync import Docket as BlockingDocket
from tests.runtime.support import now, soon, work_off

OLD, NEW = "the old key: long enough to be one", "the new key: long enough to be one"

EXPLODED: list[str] = []
RAN: list[Any] = []


def explode(where: str) -> tuple[tuple[()], dict[str, Any]]:
    EXPLODED.append(where)
    return (), {}


class Bomb:
    def __reduce__(self) -> Any:
        return explode, ("a pickle",)


BOMB = b"p" + pickle.dumps(Bomb())


async def note(what: Any = None) -> Any:
    RAN.append(what)
    return what


def note_in_a_thread(what: Any = None) -> Any:
    RAN.append(what)
    return what


async def fail(message: str) -> None:
    raise ValueError(message)


async def fail_once(message: str, retry: Retry = Retry(attempts=2)) -> str:
    if retry.attempt == 1:
        raise ValueError(message)
    return message


@pytest.fixture(autouse=True)
def fresh() -> None:
    EXPLODED.clear()
    RAN.clear()


@pytest.fixture
async def signed(docket_name: str, redis_url: str) -> AsyncIterator[Docket]:
    async with Docket(docket_name, redis_url, signing_keys=[NEW, OLD]) as docket:
        docket.register(note)
        yield docket


async def write(docket: Docket, key: str, **fields: Any) -> None:
    async with docket.redis() as redis:
        await redis.execute_command(
            "HSET", docket.keys.runs(key), *(part for pair in fields.items() for part in pair)
        )


async def read(docket: Docket, key: str, field: str) -> Any:
    async with docket.redis() as redis:
        return await redis.hget(docket.keys.runs(key), field)


async def cause_of(docket: Docket, key: str) -> str:
    (dead,) = [each for each in await docket.dead_letters() if each.key == key]
    return dead.error or ""


@pytest.mark.parametrize("task", [note, note_in_a_thread])
async def test_signed_work_runs_and_its_result_comes_back(signed: Docket, task: Any):
    execution = await signed.add(task)({"a": 1})
    await work_off(signed)
    assert await execution.get_result() == {"a": 1}
    again = await signed.get_execution(execution.key)
    assert again is not None and again.args == ({"a": 1},)


async def test_exceptions_come_back_signed(signed: Docket):
    execution = await signed.add(fail)("no")
    await work_off(signed)
    with pytest.raises(ValueError, match="no"):
        await execution.get_result()


async def test_what_is_unsigned_is_set_aside_and_never_loaded(
    signed: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url, signing_keys=[]) as stranger:
        await stranger.add(note, key="k")(1)
    await work_off(signed)
    assert "not signed" in await cause_of(signed, "k") and RAN == []


async def test_a_written_pickle_is_set_aside_and_never_loaded_by_anybody(signed: Docket):
    execution = await signed.add(note, key="k")(1)
    await write(signed, "k", body=BOMB)
    await work_off(signed)
    assert "cannot be trusted: not signed" in await cause_of(signed, "k")
    with pytest.raises(DeadLetter, match="not signed"):
        await execution.get_result()
    (dead,) = (await signed.snapshot()).dead
    found = await signed.get_execution("k")
    assert found is not None
    for each in (dead, found):
        with pytest.raises(Untrusted, match="not signed"):
            _ = each.args
    assert EXPLODED == [] and RAN == []


@pytest.mark.parametrize("place", [0, 1, 16, 17, 48, 49, 60, -1])
async def test_one_altered_bit_is_one_too_many(signed: Docket, place: int):
    await signed.add(note, key="k")("the arguments")
    body = bytearray(await read(signed, "k", "body"))
    body[place] ^= 1
    await write(signed, "k", body=bytes(body))
    await work_off(signed)
    assert "cannot be trusted" in await cause_of(signed, "k") and RAN == []


async def test_a_body_cannot_be_moved_to_another_key(signed: Docket):
    await signed.add(note, soon(days=1), key="from")("secret")
    await signed.add(note, key="to")("harmless")
    fields = {name: await read(signed, "from", name) for name in ("body", "nonce")}
    await write(signed, "to", **fields)
    await signed.cancel("from")
    await work_off(signed)
    assert "none of the signing keys" in await cause_of(signed, "to") and RAN == []


async def test_a_body_cannot_be_moved_to_another_task(signed: Docket):
    signed.register(note_in_a_thread)
    await signed.add(note, key="k")("a")
    await write(signed, "k", function=b"note_in_a_thread")
    await work_off(signed)
    assert "none of the signing keys" in await cause_of(signed, "k") and RAN == []


async def test_a_body_cannot_be_moved_to_another_docket(signed: Docket, docket_name: str, redis_url: str):
    await signed.add(note, key="k")("a")
    fields = {name: await read(signed, "k", name) for name in ("body", "nonce")}
    async with Docket(f"{docket_name}-2", redis_url, signing_keys=[NEW]) as other:
        await other.add(note, key="k")("b")
        await write(other, "k", **fields)
        await work_off(other)
        assert "none of the signing keys" in await cause_of(other, "k") and RAN == []
    await signed.clear()


async def test_an_older_body_of_the_same_key_is_refused(signed: Docket):
    await signed.add(note, key="k")("older")
    older = await read(signed, "k", "body")
    await work_off(signed)
    await signed.add(note, key="k")("newer")
    await write(signed, "k", body=older)
    await work_off(signed)
    assert "another call of this key" in await cause_of(signed, "k") and RAN == ["older"]


async def test_a_replaced_body_is_refused(signed: Docket):
    await signed.add(note, soon(days=1), key="k")("older")
    older = await read(signed, "k", "body")
    await signed.replace(note, now(), key="k")("newer")
    await write(signed, "k", body=older)
    await work_off(signed)
    assert "another call of this key" in await cause_of(signed, "k") and RAN == []


async def test_a_dead_letter_that_was_mended_runs(signed: Docket):
    await signed.add(note, key="k")("good")
    good = await read(signed, "k", "body")
    await write(signed, "k", body=BOMB)
    await work_off(signed)
    await write(signed, "k", body=good)
    assert await signed.retry_dead("k")
    await work_off(signed)
    assert RAN == ["good"] and EXPLODED == []


# --- keys are changed ------------------------------------------------------------------------------------------------


async def test_what_an_old_key_has_signed_is_accepted_and_the_first_one_signs(
    signed: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url, signing_keys=[OLD]) as before:
        await before.add(note, key="old")(1)
    await signed.add(note, key="new")(2)
    await work_off(signed)
    assert sorted(RAN) == [1, 2]
    async with Docket(docket_name, redis_url, signing_keys=[NEW]) as after:
        for key in ("old", "new"):
            found = await after.get_execution(key)
            assert found is not None and await found.get_result() == RAN[0 if key == "old" else 1]


async def test_a_key_that_is_no_longer_named_is_not_accepted(
    signed: Docket, docket_name: str, redis_url: str
):
    async with Docket(docket_name, redis_url, signing_keys=["somebody else's"]) as other:
        await other.add(note, key="k")(1)
    await work_off(signed)
    assert "none of the signing keys" in await cause_of(signed, "k") and RAN == []


async def test_who_has_no_keys_reads_what_is_signed(signed: Docket, docket_name: str, redis_url: str):
    """So a service is brought to signing: clients first, then workers."""
    await signed.add(note, key="k")(7)
    async with Docket(docket_name, redis_url, signing_keys=[]) as keyless:
        keyless.register(note)
        await work_off(keyless)
        found = await keyless.get_execution("k")
        assert found is not None and found.args == (7,) and await found.get_result() == 7


# --- what follows from work ------------------------------------------------------------------------------------------


async def test_retries_and_redeliveries_keep_their_signature(signed: Docket):
    execution = await signed.add(fail_once)("x")
    await work_off(signed)
    assert await execution.get_result() == "x"


async def test_a_chain_signs_its_successors(signed: Docket):
    async def count_down(number: int) -> None:
        RAN.append(number)
        if number:
            key = current_execution.get().key
            await signed.add(count_down, key=key)(number - 1)

    await signed.add(count_down, key="k")(3)
    await work_off(signed)
    assert RAN == [3, 2, 1, 0] and await signed.dead_letters() == []


async def test_a_perpetual_task_signs_its_next_arguments(signed: Docket):
    async def climb(step: int, perpetual: Perpetual = Perpetual()) -> int:
        RAN.append(step)
        if step == 3:
            perpetual.cancel()
        perpetual.perpetuate(step + 1)
        return step

    execution = await signed.add(climb, key="k")(1)
    await work_off(signed)
    assert RAN == [1, 2, 3] and await execution.get_result() == 3


async def test_earlier_arguments_of_a_perpetual_task_are_refused(signed: Docket):
    bodies: list[bytes] = []

    async def climb(step: int, perpetual: Perpetual = Perpetual(every=timedelta(milliseconds=20))) -> None:
        RAN.append(step)
        bodies.append(await read(signed, "k", "body"))
        perpetual.perpetuate(step + 1)
        if step == 2:
            await write_later(signed, bodies[0])
            perpetual.cancel()

    async def write_later(docket: Docket, body: bytes) -> None:
        # Not at once: an idle worker would have taken it up before it is written to.
        await docket.add(note, when=soon(milliseconds=200), key="after")("x")
        await write(docket, "after", body=body, function=b"climb")

    signed.register(climb)
    await signed.add(climb, key="k")(1)
    await work_off(signed)
    assert RAN == [1, 2] and len(set(bodies)) == 2 and bodies[0][1:17] != bodies[1][1:17]
    assert "cannot be trusted" in await cause_of(signed, "after")


async def test_agendas_and_batches_are_signed(signed: Docket):
    await signed.add_many([signed.call(note, key=f"k{i}")(i) for i in range(20)])
    await work_off(signed)
    assert sorted(RAN) == list(range(20))


# --- results ---------------------------------------------------------------------------------------------------------


async def overwrite_result(docket: Docket, key: str, stored: bytes) -> None:
    async with docket.redis() as redis:
        await redis.set(docket.keys.results(key), stored, px=60_000)


async def test_a_client_refuses_an_unsigned_result(signed: Docket):
    execution = await signed.add(note)(1)
    await work_off(signed)
    await overwrite_result(signed, execution.key, BOMB)
    with pytest.raises(Untrusted, match=f"the result of '{execution.key}' cannot be trusted: not signed"):
        await execution.get_result()
    with (
        BlockingDocket(signed.name, signed.url, signing_keys=[NEW]) as blocking,
        pytest.raises(Untrusted),
    ):
        found = blocking.get_execution(execution.key)
        assert found is not None
        found.get_result()
    assert EXPLODED == []


async def test_a_client_refuses_the_result_of_another_call(signed: Docket):
    one, two = await signed.add(note)(1), await signed.add(note)(2)
    await work_off(signed)
    async with signed.redis() as redis:
        await redis.copy(signed.keys.results(one.key), signed.keys.results(two.key), replace=True)
    with pytest.raises(Untrusted):
        await two.get_result()
    assert await one.get_result() == 1


async def test_a_client_refuses_the_result_of_an_earlier_call_of_the_key(signed: Docket):
    await signed.add(note, key="k")("paid: no")
    await work_off(signed)
    async with signed.redis() as redis:
        earlier: Any = await redis.get(signed.keys.results("k"))
    execution = await signed.add(note, key="k")("paid: yes")
    await work_off(signed)
    await overwrite_result(signed, "k", earlier)
    with pytest.raises(Untrusted, match="another call"):
        await execution.get_result()


async def test_a_value_does_not_pass_for_an_exception(signed: Docket):
    execution = await signed.add(note)(("ValueError", "m", "t", BOMB))
    await work_off(signed)
    await write(signed, execution.key, state=b"failed", result=b"exception")
    with pytest.raises(Untrusted):
        await execution.get_result()
    assert EXPLODED == []


# --- strikes ---------------------------------------------------------------------------------------------------------


async def test_signed_rules_strike_and_can_be_lifted(signed: Docket):
    await signed.strike(note, "what", "==", 13)
    struck = await signed.add(note)(what=13)
    with pytest.raises(ExecutionCancelled):
        await struck.get_result()
    assert await signed.restore(note, "what", "==", 13)


async def test_the_value_of_an_unsigned_rule_is_never_loaded_and_strikes_nothing(signed: Docket, caplog: Any):
    about = {"operator": "==", "hold": ""}
    async with signed.redis() as redis:
        await redis.xadd(
            signed.keys.strikes, {"function": "note", "parameter": "what", "value": BOMB, **about}
        )
        await redis.xadd(signed.keys.strikes, {"function": "note", "parameter": "", "value": BOMB, **about})
    await signed.add(note, key="k")(what=13)
    await work_off(signed)
    assert RAN == [13] and EXPLODED == []
    assert "nothing is struck by it" in caplog.text
    assert await signed.restore(note), "what is not trusted can still be taken away"
    async with signed.redis() as redis:
        await redis.delete(signed.keys.strikes)


async def test_a_signed_rule_cannot_be_made_another_one(signed: Docket):
    await signed.strike(note, "what", "==", 13)
    async with signed.redis() as redis:
        rules: Any = await redis.xrange(signed.keys.strikes)
        ((_, fields),) = rules
        await redis.delete(signed.keys.strikes)
        await redis.xadd(signed.keys.strikes, {**fields, b"operator": b"!="})
    await signed.add(note)(what=1)
    await work_off(signed)
    assert RAN == [1]
    async with signed.redis() as redis:
        await redis.delete(signed.keys.strikes)


# --- settings --------------------------------------------------------------------------------------------------------


async def test_keys_come_from_the_environment(
    docket_name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("DOCKET_SIGNING_KEYS", f"{NEW} , {OLD},")
    async with Docket(docket_name, redis_url) as docket:
        assert docket.settings.keys == (NEW.encode(), OLD.encode())
        await docket.add(note, key="k")(1)
        assert (await read(docket, "k", "body"))[:1] == b"s"
        assert Docket(docket_name, redis_url, signing_keys=[]).settings.keys == ()
        await docket.clear()


@pytest.mark.parametrize("keys", [[""], [b""], ["good", ""]])
def test_an_empty_key_is_refused(keys: Any):
    with pytest.raises(ValueError, match="an empty one"):
        Docket(signing_keys=keys)


def test_what_is_no_key_is_refused_without_showing_it():
    with pytest.raises(TypeError, match="got a int") as caught:
        Docket(signing_keys=[98765])  # type: ignore[list-item]
    assert "98765" not in str(caught.value)


def test_keys_and_passwords_are_in_no_repr():
    docket = Docket("d", "redis://user:hunter2@localhost/0", signing_keys=["correct horse"])
    shown = repr(docket.settings) + repr(docket) + repr(docket.core)
    assert "hunter2" not in shown and "horse" not in shown


def test_a_signature_binds_each_part_at_its_place():
    """The end of one part must not pass for the beginning of the next."""
    door = Door("d", keys=[b"k"])
    sealed = door.sealed_call("ab", "c", b"pbody")
    nonce = sealed[1:17]
    assert door.opened_call("ab", "c", nonce, sealed) == b"pbody"
    for function, key in (("a", "bc"), ("abc", ""), ("", "abc"), ("ab", "d")):
        with pytest.raises(Untrusted):
            door.opened_call(function, key, nonce, sealed)


# --- without pickle --------------------------------------------------------------------------------------------------


@pytest.fixture
async def plain(docket_name: str, redis_url: str) -> AsyncIterator[Docket]:
    async with Docket(docket_name, redis_url, serializer="json") as docket:
        yield docket


@pytest.mark.parametrize(
    "value", [None, True, 0, -1.5, 2**70, "text \ud800 🎉", [], {}, {"a": [1, {"b": None}]}], ids=ascii
)
async def test_json_carries_plain_values(plain: Docket, value: Any):
    execution = await plain.add(note, key="k")(value)
    assert (await read(plain, "k", "body"))[:1] == b"j"
    await work_off(plain)
    assert [value] == RAN and await execution.get_result() == value


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1}, now(), object(), {1: 2}, float("nan"), float("inf"), [[{"a": {2}}]]],
    ids=lambda value: type(value).__name__,
)
async def test_what_json_cannot_carry_is_refused_at_the_caller_with_the_parameter_named(
    plain: Docket, value: Any
):
    with pytest.raises(
        TypeError, match=r"cannot carry as JSON the argument 'what' \(a .+\) of the call to 'note'"
    ):
        await plain.add(note)(value)
    with pytest.raises(CannotStore, match="as JSON"):
        await plain.add(note)(what=value)


async def test_a_result_that_json_cannot_carry_fails_that_execution_only(plain: Docket):
    async def things() -> Any:
        return {1, 2}

    execution = await plain.add(things)()
    await work_off(plain)
    with pytest.raises(TypeError, match=r"cannot store the result \(a set\)"):
        await execution.get_result()


async def test_built_in_exceptions_are_rebuilt_from_json_and_others_are_told(plain: Docket):
    class Own(Exception):
        pass

    async def fail_with(what: str) -> None:
        raise {"own": Own("mine", 1), "key": KeyError("k"), "exit": SystemExit(3)}[what]

    ended = {what: await plain.add(fail_with)(what) for what in ("own", "key", "exit")}
    await work_off(plain)
    with pytest.raises(KeyError, match="k") as caught:
        await ended["key"].get_result()
    assert "fail_with" in str(caught.value.__cause__)
    with pytest.raises(TaskFailed, match=r"Own: \('mine', 1\)"):
        await ended["own"].get_result()
    with pytest.raises(TaskFailed, match="SystemExit: 3"):
        await ended["exit"].get_result()


async def test_a_pickled_body_is_refused_where_only_json_is_spoken(plain: Docket):
    execution = await plain.add(note, key="k")(1)
    await write(plain, "k", body=BOMB)
    await work_off(plain)
    assert "pickled, and this docket has serializer='json'" in await cause_of(plain, "k")
    with pytest.raises(Untrusted):
        _ = (await plain.dead_letters())[0].args
    two = await plain.add(note)(2)
    await work_off(plain)
    await overwrite_result(plain, two.key, BOMB)
    with pytest.raises(Untrusted, match="pickled"):
        await two.get_result()
    with pytest.raises(DeadLetter):
        await execution.get_result()
    assert EXPLODED == []


async def test_an_exception_with_a_pickle_inside_json_is_not_loaded(plain: Docket):
    execution = await plain.add(fail)("no")
    await work_off(plain)
    await overwrite_result(plain, execution.key, b'j["ValueError","m","t","' + BOMB.hex().encode() + b'"]')
    with pytest.raises(Exception, match=r".+"):
        await execution.get_result()
    assert EXPLODED == []


async def test_who_pickles_reads_json_as_well(plain: Docket, docket_name: str, redis_url: str):
    """So a docket is brought from one to the other, in either direction, while it works."""
    await plain.add(note, key="k")([1])
    async with Docket(docket_name, redis_url, serializer="pickle") as pickling:
        pickling.register(note)
        await work_off(pickling)
    assert RAN == [[1]]


async def test_json_can_be_signed(docket_name: str, redis_url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DOCKET_SERIALIZER", "json")
    async with Docket(docket_name, redis_url, signing_keys=[NEW]) as docket:
        execution = await docket.add(note, key="k")([1])
        body = await read(docket, "k", "body")
        assert body[:1] == b"s" and body[49:50] == b"j"
        await work_off(docket)
        assert await execution.get_result() == [1]


@pytest.mark.parametrize("serializer", ["yaml", "JSON ", "msgpack"])
def test_another_serializer_is_refused(serializer: str):
    with pytest.raises(ValueError, match="expected serializer to be pickle or json, got"):
        Docket(serializer=serializer)
