"""What a function asks for can be asked, for those who look at the functions of others."""

from __future__ import annotations

from typing import Annotated

from docket import Depends, Logged, Retry, TaskKey, Timeout
from docket.dependencies import (
    Dependency,
    get_annotation_dependencies,
    get_dependency_parameters,
    get_single_dependency_of_type,
    get_single_dependency_parameter_of_type,
)


class Audited(Dependency):
    """Stands in an annotation."""


def session() -> int:
    return 1


async def task(
    order: Annotated[int, Audited, Logged],
    key: str = TaskKey(),
    retry: Retry = Retry(attempts=3),
    number: Annotated[int, Depends(session)] = 0,
) -> None: ...


def test_what_supplies_a_parameter_is_told():
    found = get_dependency_parameters(task)
    assert set(found) == {"key", "retry", "number"}
    assert get_single_dependency_of_type(found, Retry) is found["retry"]
    assert get_single_dependency_of_type(found, Timeout) is None


def test_what_stands_in_an_annotation_is_told():
    found = get_annotation_dependencies(task)
    assert [type(each) for each in found["order"]] == [Audited]


def test_the_one_of_a_type_is_found_with_its_parameter():
    found = get_single_dependency_parameter_of_type(task, Retry)
    assert found is not None
    assert (found[0], found[1].attempts) == ("retry", 3)
    assert get_single_dependency_parameter_of_type(task, Timeout) is None
