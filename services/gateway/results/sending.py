"""A result's stored files on their way to a client: checked, counted; a fault of the storage is told in its words."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from services.gateway.state import GatewayState
from shared.errors import ResultDamaged, Unavailable
from shared.logging import get_logger
from shared.storage.checked import ObjectDamaged
from shared.storage.interface import StorageError

log = get_logger(__name__)


def sent(state: GatewayState, job_id: UUID, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The same chunks; raises ResultDamaged and Unavailable."""
    try:
        for chunk in chunks:
            state.counters.result_bytes.inc(len(chunk))
            yield chunk
    except ObjectDamaged as error:
        state.counters.damaged_results.inc()
        log.error("a stored file is damaged and is not served", job=str(job_id), error=str(error))
        raise ResultDamaged("A file of the result is not stored as the job made it.") from error
    except StorageError as error:
        log.warning("a stored file cannot be read", job=str(job_id), error=str(error))
        raise Unavailable("The storage cannot be read now.", headers={"Retry-After": "5"}) from error
