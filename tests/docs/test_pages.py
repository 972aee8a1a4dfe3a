"""Every snippet of docs/ runs as it stands, on a real Redis, and prints what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import FOLDER, PAGES, Block, Reader, blocks, check_output
from tests.guards.tree import REPOSITORY
from tests.redis_server import RedisServer

README = (REPOSITORY / "README.md").read_text()

TESTED_BY_PYTEST = {"testing.md": 6}
"""Pages whose snippets are the files of a project with tests → how many tests."""

TO_BE_WORKED_THROUGH = [page for page in PAGES if page not in TESTED_BY_PYTEST and blocks(page)]


@pytest.fixture
def environment(own_redis: RedisServer) -> dict[str, str]:
    """With a Redis of the reader's own: the dockets of a page have the names that it says."""
    return {**os.environ, "DOCKET_URL": own_redis.url, "COLUMNS": "120"}


NEEDED = {"preloading.md": "opentelemetry.sdk"}
"""What a page takes beside docket itself: it comes with docket-runtime[otel], which not everybody who tests has."""


@pytest.mark.parametrize("page", TO_BE_WORKED_THROUGH)
async def test_a_page_can_be_worked_through(page: str, tmp_path: Path, environment: dict[str, str]):
    if page in NEEDED:
        pytest.importorskip(NEEDED[page])
    with Reader(tmp_path, environment).at_work() as reader:
        for block in blocks(page):
            await reader.follow(block)


@pytest.mark.parametrize("page", TESTED_BY_PYTEST)
def test_the_tests_of_a_page_pass(page: str, tmp_path: Path):
    for block in blocks(page):
        if block.language == "python":
            assert block.file_name is not None, f"a snippet without a file's name: {block}"
            assert not (tmp_path / block.file_name).exists()
            (tmp_path / block.file_name).write_text(block.text)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"\b{TESTED_BY_PYTEST[page]} passed", done.stdout), done.stdout


def test_the_pages_that_a_reader_looks_for_are_there_and_linked():
    wanted = {"getting-started.md", "dependencies.md", "patterns.md", "testing.md", "sync-tasks.md"}
    assert wanted | {"coming-from-pydocket.md"} <= set(PAGES)
    assert set(PAGES) <= set(re.findall(r"\]\(docs/([\w-]+\.md)\)", README)), "link it from the README"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str):
    text = (FOLDER / page).read_text()
    for target, anchor in re.findall(r"\]\((?!https?:)([\w./-]*)(?:#([\w-]+))?\)", text):
        path = FOLDER / target if target else FOLDER / page
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
            slugs = {
                re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }
            assert anchor in slugs, anchor


@pytest.mark.parametrize("page", PAGES)
def test_every_block_says_what_it_is(page: str):
    assert {block.language for block in blocks(page)} <= {"python", "console", "text", "json", "ini"}
    assert (FOLDER / page).read_text().count("```") == 2 * len(blocks(page))


async def test_a_snippet_that_prints_something_else_is_found(tmp_path: Path):
    reader = Reader(tmp_path, {})

    def snippet(text: str, output: str | None) -> Block:
        return Block("a page", "python", text, 1, output)

    with reader.at_work():
        await reader.paste(snippet("import asyncio\nawait asyncio.sleep(0)\nprint('a 17 b')", "a … b\n"))
        with pytest.raises(AssertionError, match="a page:1 says"):
            await reader.paste(snippet("print(1)", "2\n"))
        with pytest.raises(AssertionError):
            await reader.paste(snippet("print(1)", None))
        with pytest.raises(AssertionError):
            await reader.paste(snippet("1", "2\n"))
        with pytest.raises(ZeroDivisionError):
            await reader.paste(snippet("1 / 0", None))
        with pytest.raises(AssertionError):
            reader.type(Block("a page", "console", "$ python -c 'print(1)'\n2\n", 1, None))
        with pytest.raises(AssertionError):
            reader.type(Block("a page", "console", "$ python -c '1/0'\n", 1, None))
    check_output(snippet("", None), "one\ntwo …\n", "one\ntwo three\n")
