"""P-7's checker: what was admitted, and when, against what a limit allows in any span of time."""

from collections.abc import Sequence

from tests.chaos.checkers import Verdict


def limit_is_kept(
    admitted_s: Sequence[float], *, per_minute: int, losses: int, late_s: float = 1.0, outage: tuple[float, float]
) -> Verdict:
    """In any span of `t` seconds at most `rate * t + burst` are admitted, and one burst more per loss of the counter.

    An admission is written down up to `late_s` after it was counted. In the outage at least half of the limit is
    admitted: nobody is shut out for want of the counter.
    """
    rate, instants = per_minute / 60, sorted(admitted_s)
    lowest, most_over = 0.0, 0.0
    for index, at in enumerate(instants):
        lowest = min(lowest, index - rate * (at - instants[0]))
        most_over = max(most_over, index + 1 - rate * (at - instants[0]) - lowest)
    allowed = per_minute * (1 + losses) + rate * late_s
    begun_s, ended_s = outage
    in_outage = sum(begun_s <= at <= ended_s for at in instants)
    wanted = rate * (ended_s - begun_s) / 2
    reasons: list[str] = []
    if not instants:
        reasons.append("nothing was admitted")
    if most_over > allowed:
        reasons.append(f"{most_over:.0f} were admitted beyond the rate where {allowed:.0f} are allowed")
    if in_outage < wanted:
        reasons.append(f"{in_outage} were admitted in the outage, at least {wanted:.0f} should be")
    numbers = {"admitted": len(instants), "most_beyond_rate": round(most_over), "in_outage": in_outage}
    return Verdict("P-7", tuple(reasons), numbers)
