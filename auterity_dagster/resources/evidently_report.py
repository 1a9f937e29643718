"""Evidently's report on columns of values, as a page for people and as figures: a summary, and drift where asked.

Evidently is imported when a report is made: that takes seven seconds and 280 MB, which no other run should pay.
"""

import os
from typing import NamedTuple

from auterity_dagster.neuroweaver.drift import PSI_LIMIT, Drift, Features, numbers_in, rows_of


class EvidentlyReport(NamedTuple):
    """`html` stands alone (nothing is loaded from elsewhere); `drift` is None where nothing was compared."""

    html: bytes
    drift: Drift | None


def evidently_report(current: Features, reference: Features | None) -> EvidentlyReport:
    """Describe `current`, and compare it with `reference` column by column, by population stability index.

    Of two sides only the columns that both have are shown. No column holds text: what Evidently does with texts needs
    downloads or minutes.
    """
    # Evidently would otherwise report to its makers that it was used, and where.
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift
    from evidently.presets import DataSummaryPreset
    from evidently.tests import lte

    def dataset(features: Features) -> Dataset:
        frame = pandas.DataFrame({name: list(values) for name, values in features.items()})
        numbers = list(numbers_in(features))
        categories = [name for name in features if name not in numbers]
        definition = DataDefinition(numerical_columns=numbers, categorical_columns=categories)
        return Dataset.from_pandas(frame, definition)

    if reference is None:
        snapshot = Report([DataSummaryPreset()]).run(dataset(current), None)
        return EvidentlyReport(snapshot.get_html_str(as_iframe=False).encode(), None)
    shared = [name for name in current if name in reference]
    drifts = [ValueDrift(column=name, method="psi", threshold=PSI_LIMIT, tests=[lte(PSI_LIMIT)]) for name in shared]
    now, then = (dataset({name: side[name] for name in shared}) for side in (current, reference))
    snapshot = Report([*drifts, DataSummaryPreset()]).run(now, then)
    html = snapshot.get_html_str(as_iframe=False).encode()
    found = {
        metric["config"]["column"]: float(metric["value"])
        for metric in snapshot.dict()["metrics"]
        if metric["config"]["type"] == "evidently:metric_v2:ValueDrift"
    }
    return EvidentlyReport(html, Drift(rows=rows_of(current), reference_rows=rows_of(reference), psi=found))
