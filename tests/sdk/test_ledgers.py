"""Several ledgers as one: the names of workers and entries are put together and taken apart."""

from __future__ import annotations

import pytest

from docket.message import name_of
from docket.store.ledger import family_of, ids_in, in_one


@pytest.mark.parametrize(
    ("ids", "one"),
    [
        (["w/abc"], "w/abc"),
        ([""], ""),
        (["", "", ""], ""),
        (["w/f.a", "w/f.b", "w/f.c"], "w/f.a,b,c"),
        (["host.example/1,2#3/f.a", "host.example/1,2#3/f.b"], "host.example/1,2#3/f.a,b"),
        (["w/f.a", ""], "w/f.a,"),
    ],
)
def test_the_ids_of_a_worker_are_told_in_one(ids: list[str], one: str):
    assert in_one(ids) == one
    if one:
        assert [each for each in ids_in(one, len(ids)) if not each.endswith(".")] == [
            each for each in ids if each
        ]
        assert name_of(one) == name_of(ids[0])
        assert family_of(ids[0]) == family_of(one)
