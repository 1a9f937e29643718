"""The gateway's client for one candidate: the organization's own judging key, made again from the pepper."""

from auterity_dagster.resources.candidate import CandidateResource
from auterity_dagster.resources.installation import InstallationResource
from auterity_dagster.resources.judging_gateway import JudgingGateway
from auterity_dagster.storage.database import BlockingDatabase


def judging_gateway(
    database: BlockingDatabase, candidate: CandidateResource, installation: InstallationResource
) -> JudgingGateway:
    """Return a client that the caller closes."""
    return JudgingGateway(
        database,
        organization_id=candidate.organization,
        gateway_url=installation.gateway_url,
        pepper=installation.pepper,
    )
