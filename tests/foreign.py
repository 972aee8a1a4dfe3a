"""Something foreign at a key of ours. What is there is put aside in the same step, a script: workers add and delete
these keys all the time, and what was there a command ago may be gone."""

from __future__ import annotations

from typing import Any

from docket.store.keys import kind_of

_PLANT = """
if KEYS[2] ~= '' and redis.call('EXISTS', KEYS[1]) == 1 then
  redis.call('RENAME', KEYS[1], KEYS[2])
end
if ARGV[1] == 'string' then
  redis.call('HSET', KEYS[1], 'a', 'b')
else
  redis.call('SET', KEYS[1], 'something foreign')
end
"""


def plant(redis: Any, name: str, *, aside: str = "") -> Any:
    """Of another kind than docket keeps there; `aside` is where what was there goes, or it is overwritten.

    Over an asynchronous client this is to be awaited.
    """
    return redis.eval(_PLANT, 2, name, aside, kind_of(name))
