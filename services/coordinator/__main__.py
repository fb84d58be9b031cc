"""`python -m services.coordinator`: all loops in one process, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import signal

from services.coordinator.breakers import Breakers
from services.coordinator.dispatcher import Dispatcher
from services.coordinator.janitor import Janitor
from services.coordinator.loop import Loop
from services.coordinator.reaper import Reaper
from services.coordinator.webhook_sender import WebhookSender
from shared.database import open_database
from shared.durability import await_servers
from shared.events import EventPublisher
from shared.logging import configure_logging, get_logger
from shared.settings import get_settings
from shared.storage.open import open_storage
from workers.families import families


def main() -> None:
    """Run until told to stop."""
    settings = get_settings()
    configure_logging("coordinator", level=settings.log_level, json_lines=settings.log_json)
    await_servers(settings)
    engine = open_database(settings.database_url, pool_size=3, name="atelier-coordinator")
    events = EventPublisher(settings.redis_url)
    storage = open_storage(settings.storage_url, settings.s3_endpoint_url, settings.s3_region)
    known = families()
    dispatcher = Dispatcher(settings, known)
    loops = [
        Loop("reaper", settings.reap_seconds, Reaper(settings, known, engine, events).round),
        Loop("breakers", settings.reap_seconds, Breakers(settings, engine).round),
        Loop("janitor", 6 * settings.reap_seconds, Janitor(settings, engine, storage).round),
        WebhookSender(settings),
    ]
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: dispatcher.stop())
    for loop in loops:
        loop.start()
    get_logger(__name__).info("coordinator is up", families=sorted(known))
    dispatcher.run()
    for loop in loops:
        loop.stop()
    for loop in loops:
        loop.join(timeout=10)
    events.close()
    engine.dispose()


if __name__ == "__main__":
    main()
