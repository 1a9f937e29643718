"""What RelayCore's assets hand to each other."""

from auterity_dagster.assets.neuroweaver.documents import Document


class Outcomes(Document):
    """Measured outcomes as one Parquet object."""

    digest: str
    prompts: int
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    missing_cells: int


class QualityModel(Document):
    """A learned predictor; `version` is None where MLflow did not answer."""

    digest: str
    outcomes: str
    learned_prompts: int
    mlflow_run_id: str | None
    version: str | None


class QualityReport(Document):
    """What the gate said of exactly these bytes."""

    digest: str
    verdict_digest: str
    outcome: str
    report: str
