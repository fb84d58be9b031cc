"""The steps that meet the family's code: the request and its files, the model, the run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic import BaseModel

from shared.catalog.loading import LoadInput
from shared.egress.client import Egress
from shared.family import loaded_model
from shared.jobs.claims import Claim
from shared.logging import get_logger
from shared.settings import Settings
from shared.storage.interface import Storage
from workers.families import find_operation, registrations
from workers.runtime.inputs import fetched
from workers.runtime.job_context import JobContext
from workers.runtime.logged_inputs import described
from workers.runtime.residency import Residence, Residency
from workers.runtime.runner import BatchRunner, InputRejected, OutOfMemory, Runner, RunnerError
from workers.runtime.warming import warm

log = get_logger(__name__)
Output: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that can run: its request is valid, and its files are here."""

    job: JobContext
    request: BaseModel
    residence: Residence


class Running:
    """Prepares jobs and runs them, one by one or several in one call; `on_residency` hears what is loaded then."""

    def __init__(
        self, settings: Settings, storage: Storage, residency: Residency, on_residency: Callable[[dict[str, Any]], None]
    ) -> None:
        self._storage, self._residency, self._on_residency = storage, residency, on_residency
        self._egress = Egress(settings.egress_ports, settings.egress_networks)
        self._log_inputs = settings.log_inputs

    def prepare(self, job: JobContext, files: ExitStack, keep: Callable[[int], None]) -> Prepared:
        """Validate the request and bring its files here; `keep` is told their bytes, `files` takes them away again."""
        self._log_input(job.claim)
        operation = find_operation(job.operation)
        request = _validated(operation.input, job.claim.input)
        job.wants_preview = operation.wants_preview(request)
        registration = registrations()[job.claim.family]
        residence = Residence(job.claim.family, loaded_model(operation, request), registration.runner)
        job.inputs = files.enter_context(fetched(self._storage, self._egress, job.claim, operation, request))
        if job.inputs:
            keep(sum(path.stat().st_size for path in job.inputs.values()))
        return Prepared(job, request, residence)

    def run(self, one: Prepared) -> Output:
        """Load the model, and run this job alone; a job that asks for nothing else ends there."""
        if isinstance(one.request, LoadInput):
            return warm(self._residency, one.residence, self._loaded(one.residence, [one.job], runs=0))
        with self._loaded(one.residence, [one.job], runs=1) as runner:
            return runner.run(one.request, one.job)

    def run_together(self, batch: Sequence[Prepared]) -> list[Output | RunnerError]:
        """Load the model that all of these share, and run them in one call: an entry for each."""
        jobs = [one.job for one in batch]
        for job in jobs:
            job.join(jobs)
        with self._loaded(batch[0].residence, jobs, runs=len(jobs)) as runner:
            entries = cast(BatchRunner, runner).run_batch([one.request for one in batch], jobs)
        if len(entries) != len(jobs):
            raise ValueError(f"run_batch answered {len(entries)} entries for {len(jobs)} jobs")
        return entries

    @contextmanager
    def _loaded(self, residence: Residence, jobs: Sequence[JobContext], runs: int) -> Iterator[Runner]:
        if not self._residency.is_resident(residence):
            _enter(jobs, "loading")
        try:
            with self._residency.using(residence, runs) as runner:
                _enter(jobs, "running")
                yield runner
        except OutOfMemory:
            self._residency.evict_others(residence)
            raise
        finally:
            self._on_residency(self._residency.status())

    def _log_input(self, claimed: Claim) -> None:
        """What was asked, as far as the settings let logs say it."""
        if said := described(claimed.input, self._log_inputs):
            log.info("attempt started", operation=claimed.operation, input=said)


def _enter(jobs: Sequence[JobContext], phase: str) -> None:
    for job in jobs:
        job.phase(phase)


def _validated(schema: type[BaseModel], value: dict[str, Any]) -> BaseModel:
    try:
        return schema.model_validate(value)
    except ValueError as error:  # accepted by an older gateway, refused by this worker's schema
        raise InputRejected(f"This worker does not accept the input: {error}") from error
