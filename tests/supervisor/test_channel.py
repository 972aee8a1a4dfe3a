"""Messages between our own processes arrive whole, in order, and never make the sender wait."""

from __future__ import annotations

import pytest

from docket_supervisor.channel import Channel, Notices
from docket_supervisor.messages import (
    CountSuspects,
    Forked,
    ForkWorker,
    HandedOver,
    HandOver,
    Imported,
    ImportFailed,
    Leave,
    Message,
    PhaseChanged,
    RedisSeen,
    Suspects,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "message",
    [
        ForkWorker(3, 1, True),
        Forked(3, 4711),
        Imported(2),
        ImportFailed("Traceback\n  line “two”"),
        PhaseChanged(1),
        HandOver(1, "w/1", "killed by SIGSEGV", ["d:1-0", "s:2-0"]),
        HandedOver(1, "w/1", 2, 1, ["key\n"]),
        Suspects(4),
        CountSuspects(),
        RedisSeen(False, "refused"),
        Leave(),
    ],
)
def test_a_message_is_read_back_as_it_was_written(message: Message) -> None:
    line = encode(message)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert decode(line) == message


def test_messages_arrive_in_order_and_then_the_end() -> None:
    ours, theirs = Channel.pair()
    assert list(theirs.receive()) == []
    ours.send(Suspects(1))
    ours.send(Suspects(2))
    ours.close()
    assert list(theirs.receive()) == [Suspects(1), Suspects(2)]
    assert theirs.ended
    theirs.close()


def test_a_reader_that_hangs_does_not_hang_the_writer_and_loses_nothing() -> None:
    ours, theirs = Channel.pair()
    order = HandOver(1, "w/1", "cause", [f"d:{number}-0" for number in range(10_000)])
    for _ in range(20):
        ours.send(order)
    assert ours.unsent
    received: list[Message] = []
    while len(received) < 20:
        received += theirs.receive()
        ours.flush()
    assert received == [order] * 20 and not ours.unsent
    ours.close()
    theirs.close()


def test_a_dead_reader_is_no_error_for_the_writer() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    ours.send(Leave())
    ours.send(Leave())
    assert list(ours.receive()) == [] and ours.ended
    ours.close()


def test_notices_that_do_not_fit_are_dropped() -> None:
    notices = Notices()
    for _ in range(10_000):
        notices.tell(PhaseChanged(1))
    received = list(notices.receive())
    assert 0 < len(received) < 10_000 and set(received) == {PhaseChanged(1)}
    notices.tell(PhaseChanged(2))
    assert list(notices.receive()) == [PhaseChanged(2)]


def test_a_notice_to_a_supervisor_that_is_gone_is_no_error() -> None:
    notices = Notices()
    notices.close()
    notices.tell(PhaseChanged(1))
