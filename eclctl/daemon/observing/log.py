"""The daemon's operational log on standard error: what happens to it, never what it decided (that is `audit_log`).

Every module logs in one way, by `logging.getLogger(__name__)`: a sentence, with values that belong to it in its
arguments, or in `extra` as fields of their own. How a line looks is decided here alone.

Every line is ASCII without control characters, also where a path or an error message has some. A file name can neither
forge a second line nor send an escape sequence to a terminal that shows the log. Under systemd each line
carries its priority, so that `journalctl -p warning` works.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import IO, TYPE_CHECKING

import structlog
from structlog.stdlib import ProcessorFormatter

from eclctl.daemon.observing.audit_records import ascii_json
from eclctl.text import printable_ascii

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from structlog.typing import EventDict, Processor, WrappedLogger

# sd-daemon(3): a line that starts with <N> has syslog priority N.
_PRIORITIES: Mapping[str, str] = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>", "critical": "<2>"}


def render_line(_logger: WrappedLogger, _method: str, event: MutableMapping[str, object]) -> str:
    """Render `time level event key=value…` on one line; values with spaces or quotes are quoted."""
    fields = dict(event)
    head = [printable_ascii(str(fields.pop(key, ""))) for key in ("timestamp", "level", "event")]
    return " ".join(
        part for part in [*head, *(f"{printable_ascii(str(key))}={_quoted(fields[key])}" for key in fields)] if part
    )


def _quoted(value: object) -> str:
    text = printable_ascii(str(value))
    if text and not any(character in text for character in ' "='):
        return text
    return '"' + text.replace('"', '\\"') + '"'


def _render_json(_logger: WrappedLogger, _method: str, event: MutableMapping[str, object]) -> str:
    return ascii_json(
        {key: value if isinstance(value, int | float | None) else str(value) for key, value in event.items()}
    )


def _with_priority(render: Processor) -> Processor:
    """Put the systemd priority before each line."""

    def render_with_priority(logger: WrappedLogger, method: str, event: EventDict) -> str:
        level = str(event.get("level", "info"))
        return _PRIORITIES.get(level, "<6>") + str(render(logger, method, event))

    return render_with_priority


def _is_journal(stream: IO[str], announced: str) -> bool:
    """Return whether the stream is the very one that systemd announced as `device:inode` (systemd.exec(5)).

    The variable alone does not say so: children inherit it, for instance a terminal's shell.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return announced == f"{status.st_dev}:{status.st_ino}"


def setup(
    level: str = "info",
    *,
    json: bool = False,
    stream: IO[str] | None = None,
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Send what is logged to `stream`, by default standard error.

    `level` is a name that `logging` knows, in any case; `json` writes JSON lines instead of text. Call it once, before
    anything is logged; a second call replaces the first.

    Raises:
        ValueError: an unknown level.
    """
    fields: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    render: Processor = _render_json if json else render_line
    target = sys.stderr if stream is None else stream
    if _is_journal(target, environment.get("JOURNAL_STREAM", "")):
        render = _with_priority(render)
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        ProcessorFormatter(processors=[ProcessorFormatter.remove_processors_meta, render], foreign_pre_chain=fields)
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
