"""What a stack tells, read from live frames and from the text of faulthandler."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
import tempfile
import threading
from types import FunctionType

from docket import stacks
from docket.stacks import Frame

ME = __file__


def nested(then):
    return then()


def dumped(then) -> str:
    with tempfile.TemporaryFile() as file:
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read().decode()


def in_place(place: int, function, *args):
    return FunctionType(stacks.in_place(nested.__code__, place), globals())(lambda: function(*args))


def test_an_execution_is_known_by_the_name_of_its_outermost_frame():
    stack = in_place(7, lambda: stacks.live(sys._getframe()))
    assert stacks.place_of(stack) == 7
    assert stack[0].file == ME and stack[0].name == "<lambda>"
    assert stacks.place_of(stacks.live(sys._getframe())) is None


def test_of_an_execution_within_another_the_outer_one_counts():
    assert stacks.place_of(in_place(3, in_place, 9, lambda: stacks.live(sys._getframe()))) == 3


def test_the_text_of_faulthandler_says_the_same():
    found = stacks.parse(in_place(12, dumped, None))
    main = found[-1]
    assert stacks.place_of(main) == 12
    assert Frame(ME, dumped.__code__.co_firstlineno + 2, "dumped") in main


def test_the_main_thread_comes_last_whoever_writes_the_dump():
    texts: list[str] = []
    thread = threading.Thread(target=lambda: texts.append(in_place(5, dumped, None)))
    thread.start()
    thread.join()
    found = stacks.parse(texts[0])
    assert [stacks.place_of(stack) for stack in found].count(5) == 1
    assert stacks.place_of(found[-1]) is None
    assert any(frame.name.startswith("test_the_main_thread") for frame in found[-1])


def test_of_two_dumps_the_later_one_counts_and_tasks_are_no_threads():
    first, second = in_place(1, dumped, None), in_place(2, dumped, None)
    tasks = f'{stacks.TASKS}: 1\n  key:\n    File "x.py", line 3 in execution in place 8\n'
    assert stacks.place_of(stacks.parse(first + tasks + second + tasks)[-1]) == 2


def test_a_crash_is_read_like_any_dump():
    text = (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f (most recent call first):\n"
        '  File "/app/tasks.py", line 5 in boom\n  File "/d/executor.py", line ??? in execution in place 0\n'
        "\nExtension modules: a, b (total: 2)\n"
    )
    (stack,) = stacks.parse(text)
    assert stack == [Frame("/app/tasks.py", 5, "boom"), Frame("/d/executor.py", 0, "execution in place 0")]


def test_whoever_wrote_it_is_not_shown():
    text = (
        "Current thread 0x00007f (most recent call first):\n"
        '  File "/d/docket_runtime/dumping.py", line 5 in _write_threads\n'
        '  File "/d/docket_runtime/dumping.py", line 9 in <lambda>\n'
        '  File "/app/tasks.py", line 5 in work\n'
    )
    assert stacks.parse(text) == [[Frame("/app/tasks.py", 5, "work")]]


def test_nothing_is_read_from_what_is_no_dump():
    assert stacks.parse("") == [] == stacks.parse('hello\n  File "x", line 1 in y\n')


def test_the_line_of_the_application_is_told_not_that_of_the_library_it_called():
    standard, ours = (
        Frame(json.__file__, 1, "loads"),
        Frame(os.path.join(os.path.dirname(stacks.__file__), "x.py"), 2, "f"),
    )
    installed = Frame(os.path.join(sys.prefix, "lib", "python", "site-packages", "lib.py"), 3, "get")
    application, caller = Frame("/app/tasks.py", 4, "task"), Frame("/app/other.py", 5, "caller")
    frozen = Frame("<frozen importlib._bootstrap>", 6, "load")
    assert stacks.application_frame([standard, frozen, application, caller, ours]) == application
    assert stacks.application_frame([standard, ours]) == standard and stacks.is_standard(standard)
    assert stacks.is_standard(frozen) and not stacks.is_standard(application)
    assert stacks.application_frame([ours]) is None
    assert stacks.application_frame([]) is None
    assert str(application) == "/app/tasks.py:4"
    assert installed  # its folder depends on the platform; the next test asks the platform


def test_of_an_installed_application_its_own_line_is_told():
    import pytest

    standard, installed = Frame(json.__file__, 1, "loads"), Frame(pytest.__file__, 2, "main")
    assert stacks.application_frame([standard, installed]) == installed and not stacks.is_standard(installed)


def test_what_was_typed_into_an_interpreter_is_the_applications_unless_it_has_files():
    typed, generated, frozen = (
        Frame("<stdin>", 1, "task"),
        Frame("<string>", 2, "__init__"),
        Frame("<frozen x>", 3, "f"),
    )
    assert stacks.application_frame([frozen, typed]) == typed and not stacks.is_standard(typed)
    application = Frame("/app/tasks.py", 4, "task")
    assert stacks.application_frame([generated, application]) == application
