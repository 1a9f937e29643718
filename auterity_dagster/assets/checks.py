"""Asset checks as every system here states them: what must hold, and what was looked at."""

import dagster as dg

LOG_PROBABILITY_TOLERANCE = 2e-2


def blocking(name: str, asset: str) -> dg.AssetCheckSpec:
    """Return a check whose failure keeps everything below from running."""
    return dg.AssetCheckSpec(name, asset=asset, blocking=True)


def checked(name: str, is_passed: bool, **told: object) -> dg.AssetCheckResult:
    """Return a check's result with what it looked at."""
    return dg.AssetCheckResult(
        check_name=name, passed=bool(is_passed), metadata={key: str(value) for key, value in told.items()}
    )


def starts_where_left(name: str, *, found: float, recorded: float) -> dg.AssetCheckResult:
    """Return whether a stage began as likely to say its rows (mean log-probability) as the one before it ended."""
    return checked(name, abs(found - recorded) <= LOG_PROBABILITY_TOLERANCE, found=found, recorded=recorded)
