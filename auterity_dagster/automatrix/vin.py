"""Vehicle identification numbers: form, check digit, and the letters people mistake for digits."""

from dataclasses import dataclass

_VALUES = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip("ABCDEFGH", range(1, 9), strict=True)),
    **dict(zip("JKLMN", range(1, 6), strict=True)),
    "P": 7,
    "R": 9,
    **dict(zip("STUVWXYZ", range(2, 10), strict=True)),
}
_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
_LOOK_ALIKES = str.maketrans("OQI", "001")


@dataclass(frozen=True, slots=True)
class VinReading:
    """What a written VIN is: `vin` if it has the form of one, else a `suggestion` where look-alikes explain it."""

    vin: str | None
    is_check_digit_right: bool
    suggestion: str | None = None


def read_vin(written: str) -> VinReading:
    """Judge a VIN as written, in upper case and without blanks or dashes."""
    vin = "".join(written.upper().replace("-", " ").split())
    if has_form(vin):
        return VinReading(vin, is_check_digit_right=check_digit(vin) == vin[8])
    candidate = vin.translate(_LOOK_ALIKES)
    is_explained = has_form(candidate) and check_digit(candidate) == candidate[8]
    return VinReading(None, is_check_digit_right=False, suggestion=candidate if is_explained else None)


def has_form(vin: str) -> bool:
    """True for 17 upper-case letters and digits without I, O and Q."""
    return len(vin) == len(_WEIGHTS) and all(character in _VALUES for character in vin)


def check_digit(vin: str) -> str:
    """Return what the ninth character has to be (49 CFR 565.15); `vin` has the form of one."""
    rest = sum(weight * _VALUES[character] for weight, character in zip(_WEIGHTS, vin, strict=True)) % 11
    return "X" if rest == 10 else str(rest)
