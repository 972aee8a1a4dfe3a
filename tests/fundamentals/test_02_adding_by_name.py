"""Whoever adds a task need not have its code."""

from __future__ import annotations

import pytest

from docket import Docket


async def test_a_task_can_be_added_by_its_name(docket: Docket, docket_name: str, redis_url: str, work):
    """A client that has never seen the function names it; the workers must know it."""
    sent: list[tuple[int, str]] = []

    async def send_welcome_email(customer: int, name: str) -> None:
        sent.append((customer, name))

    async with Docket(docket_name, redis_url) as web_server:
        await web_server.add("send_welcome_email")(12345, name="Jane")

    docket.register(send_welcome_email)
    await work()
    assert sent == [(12345, "Jane")]


async def test_a_function_can_be_registered_under_other_names(docket: Docket, work):
    """An old name goes on working after a function was renamed."""
    sent: list[str] = []

    async def send_email(to: str) -> None:
        sent.append(to)

    docket.register(send_email, names=["send_email", "send_mail"])
    await docket.add("send_mail")("jane")
    await docket.add("send_email")("john")
    await work()
    assert sorted(sent) == ["jane", "john"]


async def test_a_whole_collection_can_be_registered(docket: Docket):
    """`module:collection` names a list of functions, as the command line does."""
    docket.register_collection("docket.tasks:standard_tasks")
    assert {"trace", "fail", "sleep"} <= set(docket.tasks)
    with pytest.raises(ImportError):
        docket.register_collection("no.such.module:tasks")
    with pytest.raises(AttributeError):
        docket.register_collection("docket.tasks:no_such_collection")
    with pytest.raises(ValueError):
        docket.register_collection("docket.tasks")


async def test_a_known_name_is_checked_like_the_function(docket: Docket):
    """Where the function is registered, a wrong call by name is refused at once."""

    async def greet(name: str) -> None: ...

    docket.register(greet)
    with pytest.raises(TypeError):
        await docket.add("greet")()


async def test_adding_a_function_registers_it(docket: Docket):
    """No registration is needed where the function is at hand."""

    async def greet(name: str) -> None: ...

    await docket.add(greet)("Jane")
    assert docket.tasks["greet"] is greet
    await docket.clear()
