from __future__ import annotations
import asyncio, sys
from datetime import timedelta, datetime, timezone
import pytest
from docket import Docket, Worker, Retry, TaskKey
from docket.store import scripts
from tests.runtime.proxy import LossyProxy

@pytest.mark.timeout(20)
async def test_lost_exchange(redis_server, docket, docket_name, short_folder):
    ran = []
    async def note(n, key=TaskKey()):
        ran.append(n)
    for i in range(30):
        await docket.add(note)(i)
    async with LossyProxy(short_folder, redis_server.socket_path) as proxy:
        async with Docket(docket_name, proxy.url) as d2:
            d2.register(note)
            proxy.lose(scripts.EXCHANGE, 3)
            async with Worker(d2, concurrency=5) as w:
                await asyncio.wait_for(w.run_until_finished(), 5)
    assert sorted(ran) == list(range(30)), proxy.lost

@pytest.mark.timeout(20)
async def test_lost_add_after_completion(redis_server, docket, docket_name, short_folder):
    ran = []
    async def note(n): ran.append(n)
    docket.register(note)
    async with LossyProxy(short_folder, redis_server.socket_path) as proxy, Worker(docket) as w, Docket(docket_name, proxy.url) as d2:
        d2.register(note)
        await d2.add(note)(0)
        await w.run_until_finished()
        proxy.lose(scripts.SCHEDULE, before_the_drop=w.run_until_finished)
        e = await d2.add(note, key="k")(1)
        print(e.disposition)
        await w.run_until_finished()
    assert ran == [0, 1]
    assert e.disposition == "scheduled"

async def test_lost_add_disposition(redis_server, docket, docket_name, short_folder):
    async def note(n): ...
    docket.register(note)
    async with LossyProxy(short_folder, redis_server.socket_path) as proxy, Docket(docket_name, proxy.url) as d2:
        d2.register(note)
        proxy.lose(scripts.SCHEDULE)
        e = await d2.add(note, key="k")(1)
    await docket.clear()
    assert e.disposition == "scheduled"

@pytest.mark.timeout(20)
async def test_surrogate(docket):
    ran = []
    async def bad(): raise ValueError("\ud800")
    async def good(): ran.append(1)
    e = await docket.add(bad)()
    await docket.add(good)()
    async with Worker(docket) as w:
        await asyncio.wait_for(w.run_until_finished(), 5)
    assert ran
    with pytest.raises(ValueError): await e.get_result(timeout=timedelta(seconds=1))

class Exits:
    def __reduce__(self): return (sys.exit, (3,))
@pytest.mark.timeout(20)
async def test_exit_on_unpickle(docket):
    ran = []
    async def bad(x): ...
    async def good(): ran.append(1)
    e = await docket.add(bad)(Exits())
    await docket.add(good)()
    async with Worker(docket) as w:
        await asyncio.wait_for(w.run_until_finished(), 5)
    assert ran

@pytest.mark.timeout(20)
async def test_ghost(docket, docket_name):
    ran = []
    async def good(): ran.append(1)
    async with Worker(docket) as w: await w.run_until_finished()
    await docket.add(good)()
    async with docket.redis() as r:
        await r.execute_command("XREADGROUP", "GROUP", "docket-workers", "ghost/123456", "COUNT", 1, "STREAMS", docket.keys.stream, ">")
    async with Worker(docket, redelivery_timeout=timedelta(seconds=.4)) as w:
        await asyncio.wait_for(w.run_until_finished(), 4)
    assert ran

@pytest.mark.timeout(20)
async def test_promote_wrong_type(docket, docket_name):
    ran = []
    async def good(n): ran.append(n)
    soon = datetime.now(timezone.utc) + timedelta(seconds=0.2)
    for i in range(5): await docket.add(good, when=soon)(i)
    async with docket.redis() as r:
        await r.set(docket.keys.runs("bad"), "x", ex=60)
        await r.zadd(docket.keys.queue, {"bad": 1})
    await asyncio.sleep(.25)
    async with Worker(docket) as w:
        await asyncio.wait_for(w.run_until_finished(), 4)
    assert sorted(ran) == [0,1,2,3,4]

@pytest.mark.timeout(20)
@pytest.mark.leaves_keys("x")
@pytest.mark.parametrize("field", ["function","body","when_us","generation","ttl_ms","state","entry","attempt"])
@pytest.mark.parametrize("value", [None, "x", ""])
async def test_record_lacking(docket, docket_name, field, value):
    ran = []
    async def good(n): ran.append(n)
    async def bad(retry=Retry(attempts=2)): 
        raise ValueError
    await docket.add(bad, key="bad")()
    for i in range(5): await docket.add(good)(i)
    async with docket.redis() as r:
        if value is None: await r.hdel(docket.keys.runs("bad"), field)
        else: await r.hset(docket.keys.runs("bad"), field, value)
    async with Worker(docket, drain_timeout=timedelta(0)) as w:
        try:
            await asyncio.wait_for(w.run_until_finished(), 2)
        except TimeoutError:
            assert 0, ("timed out", ran)
    assert sorted(ran) == [0,1,2,3,4]
    await docket.snapshot()
    await docket.purge_dead()

@pytest.mark.timeout(20)
async def test_reenter(docket):
    ran = []
    def good(n): ran.append(n)
    w = Worker(docket)
    for i in range(2):
        await docket.add(good)(i)
        async with w:
            await asyncio.wait_for(w.run_until_finished(), 2)
    assert ran == [0, 1]
