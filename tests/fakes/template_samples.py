"""The recorded samples of a template: an event, what a model, a service and people answer, what must come of it."""

import json
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from auterity_dagster.automatrix.event import Event
from auterity_dagster.automatrix.ports import ChatCall, ChatFailed
from tests.fakes.recording_service import Asked, RecordingService
from tests.fakes.workflow_world import CONFIG, Dealership, contact_id

SAMPLES = CONFIG / "workflows" / "samples"


@dataclass
class Sample:
    """One line of a template's file. `then` is what happens while the execution waits, in order.

    Each of `then` is `{"decide": …}` for an open approval, `{"says": …}` for a text message of the customer,
    `{"tells": …}` for an event of another system, or `{"silence": true}` where the time simply passes.
    """

    name: str
    event: dict[str, Any]
    expected: dict[str, Any]
    number: int
    customer: int
    contact: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    services: dict[str, Any] = field(default_factory=dict)
    then: list[dict[str, Any]] = field(default_factory=list)
    same_customer_as: str | None = None
    same_event_as: str | None = None

    @property
    def ref(self) -> str:
        """What this sample's requests to a service have in them and no other sample's."""
        return f"ref-{self.number:02}"


def read_samples(key: str) -> list[Sample]:
    """Read a template's file, one sample a line."""
    samples: list[Sample] = []
    for number, line in enumerate((SAMPLES / f"{key}.jsonl").read_text(encoding="utf-8").splitlines(), start=1):
        document = json.loads(line)
        earlier = document.get("same_customer_as") or document.get("same_event_as")
        customer = next((one.customer for one in samples if one.name == earlier), number)
        samples.append(Sample(number=number, customer=customer, **document))
    return samples


def sample_event(dealership: Dealership, key: str, sample: Sample) -> Event:
    """The event of a sample as its sender would tell it, about the sample's own customer."""
    same = sample.same_event_as
    dedupe_key = f"{key}:{same or sample.name}"
    data = {
        "contact_id": str(contact_id(sample.customer)),
        "customer_name": "Marisol Teague",
        "channel": "sms",
        "flags": [],
        "dedupe_key": dedupe_key,
        **({"kind": "sales", "lead_id": str(uuid4())} if sample.event["type"] == "lead.received" else {}),
        **_with_ref(sample.event.get("data", {}), sample.ref),
    }
    return Event(
        id=uuid4(), type=sample.event["type"], organization_id=dealership.organization_id,
        dealership_id=dealership.dealership_id, subject=f"samples/{sample.customer}", time=dealership.clock.now(),
        dedupe_key=dedupe_key, data=data,
    )  # fmt: skip


def told_event(dealership: Dealership, sample: Sample, told: dict[str, Any]) -> Event:
    """An event that another system tells while the sample's execution waits."""
    data = {"contact_id": str(contact_id(sample.customer)), **_with_ref(told.get("data", {}), sample.ref)}
    return Event(
        id=uuid4(), type=told["type"], organization_id=dealership.organization_id,
        dealership_id=dealership.dealership_id, subject=f"samples/{sample.customer}", time=dealership.clock.now(),
        dedupe_key=uuid4().hex, data=data,
    )  # fmt: skip


@dataclass
class SampleModel:
    """Answers for the execution that asks as its sample says, by the path or the id of the step."""

    samples: dict[UUID, Sample]

    def __call__(self, call: ChatCall) -> str:
        execution_id, _, path = call.idempotency_key.partition(":")
        answers = self.samples[UUID(execution_id)].model
        place = path.split(":")[0]
        answer = answers[place] if place in answers else answers[place.rpartition(".")[2]]
        if isinstance(answer, dict) and "error" in answer:
            raise ChatFailed(answer["error"], "the sample lets it fail")
        if isinstance(answer, str):
            return answer
        values = {name: value for name, (value, _quote) in answer.items()}
        quotes = {name: quote for name, (_value, quote) in answer.items()}
        return json.dumps({"fields": values, "quotes": quotes})


@dataclass
class SampleService(RecordingService):
    """Every web service and CRM of the samples: answers the one whose reference stands in the request."""

    samples: list[Sample] = field(default_factory=list)

    def answer(self, asked: Asked) -> tuple[int, Any] | None:
        """What this request gets; one that no sample speaks of gets 404."""
        self.asked.append(asked)
        text = f"{asked.path} {asked.body.decode()}"
        sample = next(one for one in self.samples if one.ref in text)
        status, document = sample.services.get(f"{asked.method} {asked.path.partition('?')[0]}", (404, {}))
        return status, document


def _with_ref(value: Any, ref: str) -> Any:
    """Fill the sample's reference in wherever the file says `{ref}`."""
    if isinstance(value, str):
        return value.replace("{ref}", ref)
    if isinstance(value, dict):
        return {key: _with_ref(one, ref) for key, one in value.items()}
    if isinstance(value, list):
        return [_with_ref(one, ref) for one in value]
    return value
