"""The shipped steering policy with each kind of mistake that refuses a policy, and where and why it is refused."""

from dataclasses import dataclass
from pathlib import Path

SHIPPED = (Path(__file__).parents[2] / "config" / "steering.yaml").read_text()


@dataclass(frozen=True)
class PolicyMistake:
    """What to write in place of what stands there; `path` and `reason` are parts of what must be told."""

    written: str
    instead: str
    path: str
    reason: str

    @property
    def text(self) -> str:
        assert self.written in SHIPPED
        return SHIPPED.replace(self.written, self.instead, 1)


MISTAKES = {
    "unknown key": PolicyMistake(
        "quality_lcb: 0.70", "quality_lcbb: 0.7", "objectives.balanced.subject_to.quality_lcbb", "Extra inputs"
    ),
    "unknown field": PolicyMistake(
        "principal.purpose: {eq", "principal.purpos: {eq", "rules.0.when", "unknown field 'principal.purpos'"
    ),
    "unknown operator": PolicyMistake("{eq: judging}", "{like: judging}", "rules.0.when", "unknown operator 'like'"),
    "unknown reference": PolicyMistake(
        "pool: automotive", "pool: boats", "rules.dealership-tasks.then.pool", "there is no 'boats'"
    ),
    "wrong type": PolicyMistake("priority: 700", "priority: high", "rules.0.priority", "valid integer"),
    "equal priorities": PolicyMistake("priority: 700", "priority: 500", "rules", "'500' stands there twice"),
    "no rule that takes the rest": PolicyMistake(
        "when: always", "when: {features.task: {eq: x}}", "rules", "must be `when: always`"
    ),
    "a rule below the one that takes the rest": PolicyMistake(
        "priority: 500", "priority: -1", "rules", "must be `when: always`"
    ),
    "no price": PolicyMistake(
        "sandbox/small,", "sandbox/tiny,", "deployments.sandbox-small.price", "no price is in force for 'sandbox/tiny'"
    ),
    "credential in the clear": PolicyMistake(
        '"secret://sandbox_token"', "sk-in-the-clear", "deployments.6.credential", "should match pattern"
    ),
    "served without alias": PolicyMistake(
        'provider: sandbox, model: sandbox-small, price: sandbox/small, region: local, credential: "secret://sandbox_token"',
        "provider: served, model: neuroweaver/sales, price: sandbox/small, region: local",
        "deployments.7",
        "`alias`",
    ),
    "duplicate key": PolicyMistake(
        "name: dealership-default", "name: a\nname: b", "line 6, column 1", 'found duplicate key "name"'
    ),
    "money that is no quoted decimal": PolicyMistake(
        'cost_usd: "0.20"', "cost_usd: 0.20", "objectives.balanced.subject_to.cost_usd", "money is a quoted decimal"
    ),
    "a test that does not hold": PolicyMistake(
        "expect: {rule: default,", "expect: {rule: dealership-tasks,", "tests", "'everything else' does not hold"
    ),
}
"""Beside these, an alias is refused: its text could stand for a document without end."""
