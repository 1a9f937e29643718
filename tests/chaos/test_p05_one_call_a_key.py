"""P-5: the same `Idempotency-Key` is one provider call, one settlement and the same bytes, however often it comes."""

import random
from collections import defaultdict

import pytest

from tests.chaos.books import reap_all, reconcile_bill
from tests.chaos.checkers import Verdict, ledger_covers_bill, one_answer_a_key
from tests.chaos.cluster import Cluster, running_cluster
from tests.chaos.gateway_storm import QUESTION, Answered, Call, storm
from tests.chaos.ledger_processes import SEED
from tests.chaos.ledger_samples import spend_and_suspense

HEADER = "idempotency-key"
TIMES = 20


def repeated_calls(keys: int) -> list[Call]:
    """Each key twenty times, streamed or not; those of a key come close together, so that they meet."""
    chance, calls = random.Random(SEED), list[tuple[float, Call]]()
    for number in range(keys):
        body = {"model": "sandbox-small", "messages": QUESTION, "max_tokens": 64, "stream": number % 2 == 0}
        headers = {HEADER: f"key {number}", "x-auterity-timeout-s": "20"}
        calls += [(number + chance.random() * 4, Call(body, headers)) for _ in range(TIMES)]
    return [call for _, call in sorted(calls, key=lambda one: one[0])]


async def judged(
    cluster: Cluster, calls: list[Call], answers: list[Answered], *, is_every_key_answered: bool
) -> list[Verdict]:
    """Same bytes, one provider call a key, and one settlement: the ledger and the bill agree to the nano-dollar."""
    bodies: defaultdict[str, list[bytes]] = defaultdict(list)
    for call in calls:
        bodies[call.headers[HEADER]].extend(())
    for answer in answers:
        if answer.status == 200:
            bodies[answer.call.headers[HEADER]].append(answer.body)
    await reap_all(cluster.owner_url, cluster.application_url)
    bill = await cluster.bill()
    unexplained = reconcile_bill(cluster.owner_url, cluster.application_url, cluster.organization_id, bill)
    spend_nusd, suspense_nusd = await spend_and_suspense(cluster.owner_url)
    bill_nusd = sum(line["cost_nusd"] for line in bill)
    assert (unexplained, suspense_nusd) == (0, 0)
    return [
        one_answer_a_key(bodies, lines=len(bill), is_every_key_answered=is_every_key_answered),
        ledger_covers_bill(bill_nusd=bill_nusd, spend_nusd=spend_nusd, suspense_nusd=0, is_settled=True),
    ]


async def test_fifty_keys_that_come_twenty_times_are_fifty_calls() -> None:
    async with running_cluster(gateways=2) as cluster:
        calls = repeated_calls(50)
        answers = await storm(cluster, calls, clients=40, seed=SEED)
        answers += await storm(cluster, calls, clients=40, seed=SEED + 1)  # whoever was told to come again does
        verdicts = await judged(cluster, calls, answers, is_every_key_answered=True)

    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert {answer.status for answer in answers} <= {200, 409}


@pytest.mark.chaos
@pytest.mark.promise("P-5")
@pytest.mark.timeout(1800)
async def test_a_thousand_keys_are_called_once_each_while_the_gateways_are_killed(noted: dict[str, int]) -> None:
    async with running_cluster(gateways=2) as cluster:
        calls = repeated_calls(1_000)
        # Each death takes the calls with it that its gateway is answering: about a tenth of the keys in all.
        faults = {share / 20: lambda index=share % 2: cluster.kill_gateway(index) for share in range(1, 20)}
        answers = await storm(
            cluster, calls, clients=40, seed=SEED, faults=faults, comes_back=lambda heard: heard.status in (None, 503)
        )
        verdicts = await judged(cluster, calls, answers, is_every_key_answered=False)

    again = {answer.call.headers[HEADER] for answer in answers if answer.tries > 1}
    answered = {answer.call.headers[HEADER] for answer in answers if answer.status == 200}
    noted |= {"n": len(calls), "keys_tried_again": len(again), "keys_answered": len(answered)}
    noted |= dict(verdicts[0].numbers)
    assert [reason for verdict in verdicts for reason in verdict.reasons] == []
    assert {answer.status for answer in answers} <= {200, 409}
    assert len(answered) >= 500, "most winners died: the run shows little"


@pytest.mark.chaos
@pytest.mark.control
@pytest.mark.promise("P-5", control=True)
async def test_a_ledger_that_checks_and_then_inserts_is_found_out() -> None:
    async with running_cluster(gateways=2, control="check_then_insert") as cluster:
        calls = repeated_calls(20)
        answers = await storm(cluster, calls, clients=40, seed=SEED)
        verdicts = await judged(cluster, calls, answers, is_every_key_answered=False)

    assert not verdicts[0].is_held


class TestTheCheckerOnPlantedHistories:
    def test_a_second_provider_call_is_found(self) -> None:
        assert not one_answer_a_key({"a": [b"1"]}, lines=2, is_every_key_answered=True).is_held

    def test_different_bytes_are_found(self) -> None:
        assert not one_answer_a_key({"a": [b"1", b"2"]}, lines=1, is_every_key_answered=True).is_held

    def test_a_key_without_an_answer_is_found(self) -> None:
        assert not one_answer_a_key({"a": []}, lines=0, is_every_key_answered=True).is_held
        assert one_answer_a_key({"a": []}, lines=0, is_every_key_answered=False).is_held
