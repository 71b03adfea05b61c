"""A progress bar on standard error, when that is a terminal; else nothing."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[int], None] | None]:
    """Show how far work on `total` bytes is; gives what is to be told how many bytes more are done.

    `what` is shown before the bar and is printable text. `total` None: how much there is to do is not known. Gives
    None, and shows nothing, when standard error is no terminal. The bar is gone when the work is done or has failed.
    """
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm  # noqa: PLC0415 - only a person at a terminal pays for it

    lock = threading.Lock()  # several threads hash
    bar = tqdm(desc=what, total=total, unit="B", unit_scale=True, unit_divisor=1024, leave=False, file=sys.stderr)
    with bar:

        def advance(count: int) -> None:
            with lock:
                bar.update(count)

        yield advance
