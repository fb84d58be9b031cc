"""Logs: one line an event, JSON in production, readable on a terminal; without secrets and control characters.

Everything that a process says goes through one formatter: its own events, its libraries' records, warnings, and what
nobody caught.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Mapping, MutableMapping
from typing import Any

import structlog

from shared.redaction import redact

# At DEBUG these write whole requests, with headers and bodies.
LOUD = ("botocore", "boto3", "s3transfer", "urllib3", "httpcore", "httpcore2", "httpx", "httpx2", "hpack")
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}
CONTROL |= {code: f"\\u{code:04x}" for code in (0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
MULTILINE = ("exception", "stack")
Event = MutableMapping[str, Any]


def configure_logging(process: str, *, level: str, json_lines: bool) -> None:
    """Send this process's own logs and those of its libraries to stderr through one formatter."""
    structlog.configure(
        processors=[*_gathering(process), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )
    handler = _Lines(sys.stderr)
    handler.setFormatter(line_formatter(process, json_lines=json_lines))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in LOUD:
        logging.getLogger(name).setLevel(max(logging.INFO, root.level))
    pools = logging.getLogger("multiprocessing")  # billiard gives it a handler of its own in a spawned child
    pools.handlers.clear()
    pools.propagate = True
    logging.lastResort = handler  # for loggers that neither have a handler nor pass their records on
    logging.captureWarnings(True)
    sys.excepthook = _on_uncaught
    threading.excepthook = _on_thread_lost


def line_formatter(process: str, *, json_lines: bool) -> logging.Formatter:
    """What makes a line of a record: as JSON, or to be read as it stands, a traceback in lines of its own."""
    rendering: list[Any] = (
        [structlog.processors.JSONRenderer()] if json_lines else [_escaped, structlog.dev.ConsoleRenderer(colors=False)]
    )
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_gathering(process),
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _redacted, *rendering],
    )


def get_logger(name: str) -> Any:
    """A logger that takes events and keywords: `log.info("job claimed", job=…)`."""
    return structlog.get_logger(name)


def _gathering(process: str) -> list[Any]:
    """What is known of an event besides what it says."""

    def name_process(_: Any, __: str, event: Event) -> Event:  # a context would not reach its threads
        event["process"] = process
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        name_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]


class _Lines(logging.StreamHandler[Any]):
    """Says of a line that cannot be formatted where it came from, and not what was in it."""

    def handleError(self, record: logging.LogRecord) -> None:
        kind = sys.exc_info()[0]
        place = {"logger": record.name, "file": record.filename, "line": record.lineno}
        said = {"event": "a log line could not be written", "error": kind.__name__ if kind else None, **place}
        with contextlib.suppress(OSError, ValueError):  # nobody reads stderr any more
            self.stream.write(json.dumps(said | {"level": "error"}) + "\n")


def _redacted(_: Any, __: str, event: Event) -> Mapping[str, Any]:
    cleaned: Mapping[str, Any] = redact(event)
    return cleaned


def _escaped(_: Any, __: str, event: Event) -> Event:
    """For terminals, where JSON's own escapes do not help: only a traceback has lines."""
    for name, value in event.items():
        text = value if isinstance(value, str) else str(value)
        text = text.translate(CONTROL)
        event[name] = text if name in MULTILINE else text.replace("\n", "\\n")
    return event


def _on_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    get_logger(__name__).critical("this process ends: nobody caught the error", exc_info=(kind, error, trace))


def _on_thread_lost(lost: threading.ExceptHookArgs) -> None:
    if lost.exc_type is SystemExit or lost.exc_value is None:
        return
    found = (lost.exc_type, lost.exc_value, lost.exc_traceback)
    name = lost.thread.name if lost.thread else None
    get_logger(__name__).error("a thread ends: nobody caught the error", thread=name, exc_info=found)
