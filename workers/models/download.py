"""One download, from its request to the model's folder: plan, fetch, look inside, note where it is from, appear."""

from __future__ import annotations

from datetime import UTC, datetime

from shared.egress.client import Egress
from shared.egress.errors import EgressError
from shared.settings import Settings
from workers.models.addresses import plan_address
from workers.models.disk import Disk
from workers.models.faults import HubRefused, HubUnavailable, ModelTooLarge, NameTaken, Offline
from workers.models.hub import Hub
from workers.models.inputs import DownloadInput
from workers.models.places import KeptFile, Place, Record, place_of, read_record
from workers.models.plan import Plan, PlannedFile, asked_for, plan_repository, read_plan
from workers.models.progress import Progress
from workers.models.rules import owner_problem
from workers.models.scanning import scan
from workers.models.transfer import Refusals, Transfer, Wanted
from workers.models.verifying import problems_of
from workers.models.workspace import Workspace
from workers.runtime.fetching import FetchFailed, FetchRefused
from workers.runtime.runner import InputRejected


class Download:
    """Of one request, for one job."""

    def __init__(self, settings: Settings, egress: Egress, request: DownloadInput, progress: Progress) -> None:
        self._settings, self._egress, self._request, self._progress = settings, egress, request, progress
        self._space = Workspace(settings.models_dir, request.name)
        self._disk = Disk(settings.models_dir, settings.models_reserve_bytes)
        self._hub = Hub(settings, egress, progress.tell)

    def run(self) -> tuple[Record, Place, bool]:
        """The model's record and place, and whether it was there already. Use it within the workspace's lock."""
        if self._settings.hub_offline:
            raise Offline("This worker is set to stay offline (ATELIER_HUB_OFFLINE).")
        self._check_owner(self._request.model_id)
        asked = asked_for(self._request)
        begun = read_plan(self._space.plan(), asked)
        plan = begun or self._planned()
        for file in plan.files:
            self._check_owner(file.repository)
        place = place_of(plan.task, self._request.name)
        if record := self._kept(plan, place):
            self._space.discard()
            return record, place, True
        self._check_size(plan)
        if begun is None:
            self._space.begin(plan.told())
        record = self._fetched(plan, place)
        self._space.publish(place.path(self._settings.models_dir))
        return record, place, False

    def _check_owner(self, repository: str) -> None:
        """The gateway asked its own settings; those here are the ones that count."""
        problem = owner_problem(repository, experimental=self._request.experimental, settings=self._settings)
        if problem and self._request.source != "url":
            raise InputRejected(problem)

    def _planned(self) -> Plan:
        if self._request.source == "url":
            return plan_address(self._egress, self._request, self._progress)
        return plan_repository(self._hub, self._request)

    def _kept(self, plan: Plan, place: Place) -> Record | None:
        """The model that is there, if it is the same and whole. Raises NameTaken if it is another one."""
        folder = place.path(self._settings.models_dir)
        if not folder.exists() and not place.by_hand(self._settings.models_dir).exists():
            return None
        record = read_record(folder)
        if record is None:  # an import or a download always leaves one
            raise NameTaken(f"{place.name} was put there by hand and is not replaced; choose another name.")
        if self._request.force:
            return None
        if record.repository != plan.repository:
            raise NameTaken(f'{place.name} is {record.repository} already; choose another name, or "force": true.')
        if not _same(record, plan):
            return None
        self._progress.total = record.size
        whole = not problems_of(folder, record, self._progress.add)
        self._progress.done = self._progress.total = 0
        return record if whole else None

    def _check_size(self, plan: Plan) -> None:
        most = self._settings.max_model_bytes
        if plan.size > most and not self._request.enable_large_model:
            raise ModelTooLarge(
                f"The model has {plan.size} bytes, more than {most} (ATELIER_MAX_MODEL_BYTES); "
                '"enable_large_model": true downloads it all the same.'
            )

    def _fetched(self, plan: Plan, place: Place) -> Record:
        """All files, whole and looked into, in the workspace; what is still to come must fit the disk first."""
        self._progress.total = plan.size
        self._disk.require(plan.size - sum(self._here(plan).values()))
        transfer = Transfer(self._egress, self._progress, self._disk, self._refusals(plan))
        kept = [self._one(number, file, transfer) for number, file in enumerate(plan.files)]
        record = Record(
            family=place.family,
            task=plan.task,
            source="url" if self._request.source == "url" else "huggingface",
            repository=plan.repository,
            revision=plan.revision,
            licence=plan.licence,
            downloaded_at=datetime.now(UTC).isoformat(timespec="seconds"),
            files=tuple(sorted(kept, key=lambda file: file.name)),
            vocoder=plan.vocoder,
        )
        record.write(self._space.files)
        return record

    def _here(self, plan: Plan) -> dict[str, int]:
        """Bytes that an earlier attempt fetched, by file."""
        found = {}
        for number, file in enumerate(plan.files):
            for path in (self._space.files / file.name, self._space.part(number)):
                if path.is_file():
                    found[file.name] = path.stat().st_size
        return found

    def _one(self, number: int, file: PlannedFile, transfer: Transfer) -> KeptFile:
        path, part = self._space.files / file.name, self._space.part(number)
        if path.is_file():  # whole since an earlier attempt; it is verified once more on the way
            part.parent.mkdir(exist_ok=True)
            path.replace(part)
        sha256 = transfer.fetch(self._wanted(file), part)
        scan(part, file.name)
        self._space.keep(part, file.name)
        return KeptFile(file.name, file.size, sha256)

    def _wanted(self, file: PlannedFile) -> Wanted:
        if file.revision is None:
            address, token = self._request.model_id, None
        else:
            address, token = self._hub.address(file.repository, file.revision, file.path), self._hub.token
        return Wanted(file.name, address, file.size, file.sha256, file.blob, token, file.version)

    def _refusals(self, plan: Plan) -> Refusals:
        if plan.revision is None:
            return Refusals(
                refused=lambda status, _: FetchRefused(f"model_id: The address answered with status {status}."),
                blocked=lambda error: FetchRefused(f"model_id: {error}"),
                failed=FetchFailed,
            )
        return Refusals(
            refused=lambda status, headers: self._hub.refusal(plan.repository, status, headers.get("x-error-code")),
            blocked=_blocked,
            failed=HubUnavailable,
        )


def _same(record: Record, plan: Plan) -> bool:
    """Whether it is the plan's commit; at an address, whether size and (if it is known) hash are the file's."""
    if plan.revision is not None:
        return (record.revision, record.vocoder) == (plan.revision, plan.vocoder)
    return [(file.size, file.sha256) for file in record.files] == [
        (file.size, file.sha256 or kept.sha256) for file, kept in zip(plan.files, record.files, strict=False)
    ]


def _blocked(error: EgressError) -> InputRejected:
    return HubRefused(f"The hub's files cannot be fetched: {error}")
