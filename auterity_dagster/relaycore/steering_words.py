"""The words that a policy is written in: strict models, names, money as quoted decimals."""

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr, WithJsonSchema

from auterity_dagster.errors import Invalid
from auterity_dagster.money import NanoUsd, nano_usd

DOLLARS_PATTERN = r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,9})?$"


class Written(BaseModel):
    """A part of a policy: frozen, and anything unknown in it is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


def _quoted_decimal(value: object) -> NanoUsd:
    if not isinstance(value, str):
        raise ValueError(f"money is a quoted decimal such as '0.20', not {value!r}")
    try:
        amount_nusd = nano_usd(value)
    except Invalid as error:
        raise ValueError(error.message) from error
    if amount_nusd < 0:
        raise ValueError(f"money is not negative here: {value!r}")
    return amount_nusd


Dollars = Annotated[
    NanoUsd, BeforeValidator(_quoted_decimal), WithJsonSchema({"type": "string", "pattern": DOLLARS_PATTERN})
]
Name = Annotated[StrictStr, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Share = Annotated[float, Field(ge=0, le=1)]
