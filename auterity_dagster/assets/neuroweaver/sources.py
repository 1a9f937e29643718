"""Where an organization's own rows come from: its file, and what its workflows asked and people let go out."""

from pathlib import Path
from uuid import UUID

import dagster as dg

from auterity_dagster.clock import SystemClock
from auterity_dagster.errors import Invalid
from auterity_dagster.identity.derivation import derived_secret
from auterity_dagster.neuroweaver.configuration import read_configuration
from auterity_dagster.neuroweaver.import_csv import CsvMapping, import_csv
from auterity_dagster.neuroweaver.import_jsonl import import_lines
from auterity_dagster.neuroweaver.importing import Imported, ImportOwner, Take, checked_row
from auterity_dagster.neuroweaver.preparation.audit import Permitted
from auterity_dagster.neuroweaver.traces import trace_row
from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.database import DatabaseResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.storage.repositories.traces import traces

CUSTOMER_DATA = "customer-data"


def imported_rows(candidate: CandidateResource, installation: InstallationResource, take: Take) -> Imported:
    """Take the rows of the candidate's file. Raises `dg.Failure` with the lines that are wrong."""
    owner = _owner(
        candidate, installation, dealership_id=UUID(candidate.dealership_id), consent_id=UUID(candidate.consent_id)
    )
    path = Path(candidate.dataset)
    try:
        if candidate.dataset_mapping:
            mapping = read_configuration(Path(candidate.dataset_mapping), CsvMapping)
            with path.open(encoding="utf-8-sig", newline="") as lines:
                return import_csv(lines, file_name=path.name, mapping=mapping, owner=owner, take=take)
        with path.open("rb") as lines:
            return import_lines(lines, file_name=path.name, owner=owner, take=take)
    except Invalid as error:
        raise dg.Failure(error.message, allow_retries=False) from error


def traced_rows(
    candidate: CandidateResource,
    installation: InstallationResource,
    database: DatabaseResource,
    permitted: Permitted,
    take: Take,
) -> Imported:
    """Take what workflows asked and people let go out, of the dealerships whose consent is in force."""
    prompts = candidate.prompts()
    names: dict[str, tuple[str, ...]] = {}
    taken: set[str] = set()
    unfit = 0
    with database.connected() as connected, connected.begin(candidate.organization) as session:
        for consent_id, dealership_id in permitted.consents.items():
            for trace in traces(session, dealership_id=dealership_id):
                owner = _owner(candidate, installation, dealership_id=trace.dealership_id, consent_id=consent_id)
                raw = trace_row(trace, prompts)
                try:
                    row = None if raw is None else checked_row(raw, owner)
                except Invalid:
                    row = None
                if raw is None or row is None:
                    unfit += 1
                    continue
                place = f"{trace.execution_id}:{row.example_id}"
                if place in taken:  # two consents cover its dealership
                    continue
                taken.add(place)
                customer = row.group_keys.customer
                names[customer] = tuple(sorted({*names.get(customer, ()), *raw.names}))
                take(row)
    return Imported(len(taken), unfit, (), names)


def organization_secret(candidate: CandidateResource, installation: InstallationResource, label: str) -> bytes:
    """Return the organization's own key for one use."""
    return derived_secret(installation.pepper, label=label, parts=(candidate.organization.bytes,))


def _owner(
    candidate: CandidateResource, installation: InstallationResource, *, dealership_id: UUID, consent_id: UUID
) -> ImportOwner:
    return ImportOwner(
        organization_id=candidate.organization,
        dealership_id=dealership_id,
        consent_id=consent_id,
        licence=CUSTOMER_DATA,
        index_key=organization_secret(candidate, installation, "import index"),
        imported_at=SystemClock().now(),
    )
