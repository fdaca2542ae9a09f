"""A progress bar, if tqdm is installed."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int], None]


def _is_watched() -> bool:
    """Whether a bar would be visible: in a terminal or in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


@contextmanager
def bar(title: str, wanted: bool | None) -> Iterator[Report | None]:
    """A function to call with the amounts done and in total; ``None`` if no bar is wanted or available."""
    show = _is_watched() if wanted is None else wanted
    if not show or importlib.util.find_spec("tqdm") is None:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=1.0, desc=title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}") as shown:

        def report(done: int, total: int) -> None:
            shown.update(done / total - shown.n)

        yield report
