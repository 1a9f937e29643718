"""A stage's curves, carried to MLflow while it runs: every step once, however often the stage is killed."""

from dataclasses import dataclass, field
from pathlib import Path

from auterity_dagster.errors import Unavailable
from auterity_dagster.mlflow.tracking import MlflowTracking, Point
from auterity_dagster.neuroweaver.stage import StageEvent


@dataclass
class CurveForwarder:
    """Reads `events.jsonl` onwards from where it was; what MLflow does not take now is sent again later."""

    tracking: MlflowTracking
    run_id: str
    events: Path
    _read: int = 0
    _waiting: list[Point] = field(default_factory=list)
    _last_steps: dict[str, int] = field(default_factory=dict)

    def forward(self) -> None:
        """Send the steps that are new to the run. Raises `Unavailable`; nothing is lost then."""
        self._waiting += self._new_points()
        fresh = [point for point in self._waiting if point.step > self._last_step(point.name)]
        # A stage that resumed repeats the steps since its checkpoint, with the same values.
        points = list({(point.name, point.step): point for point in fresh}.values())
        if points:
            self.tracking.log(self.run_id, points=points)
        for point in points:
            self._last_steps[point.name] = max(self._last_steps[point.name], point.step)
        self._waiting.clear()

    def forward_if_possible(self) -> None:
        """Send what is new, or leave it for later."""
        try:
            self.forward()
        except Unavailable:
            return

    def _last_step(self, name: str) -> int:
        if name not in self._last_steps:
            self._last_steps[name] = self.tracking.last_step(self.run_id, name)
        return self._last_steps[name]

    def _new_points(self) -> list[Point]:
        if not self.events.is_file():
            return []
        with self.events.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        # The process may be writing: a line counts when its end is there.
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        events = [StageEvent.model_validate_json(line) for line in whole.splitlines()]
        return [
            Point(name=name.replace("/", "_"), value=value, step=event.step or 0, at_ms=round(event.at * 1000))
            for event in events
            if event.kind == "progress"
            for name, value in event.values.items()
        ]
