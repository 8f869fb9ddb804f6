"""Two things at once: the next item is made in a thread while one is worked on."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

_T = TypeVar("_T")


def one_ahead(items: Iterator[_T]) -> Generator[_T]:
    """The same items in the same order, the next of which is made in a thread while one is worked on.

    Close it where it may not be exhausted: that waits for the item being made, so nothing is touched afterwards.

    Args:
        items: None of them may be None. What it raises is raised where its item would have come.
    """
    with ThreadPoolExecutor(max_workers=1) as pool:
        made = pool.submit(next, items, None)
        while (item := made.result()) is not None:
            made = pool.submit(next, items, None)
            yield item
