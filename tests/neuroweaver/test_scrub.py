"""Planted personal data is found and prices, stock and part numbers are left alone, with a control for each checker."""

import ast
import inspect
import re
from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auterity_dagster.neuroweaver.example import Message
from auterity_dagster.neuroweaver.preparation import scrub as scrub_module
from auterity_dagster.neuroweaver.preparation import second_scan
from auterity_dagster.neuroweaver.preparation.scrub import has_vin_check_digit, passes_luhn, scrub
from auterity_dagster.neuroweaver.preparation.second_scan import residual_kinds

KEY = b"only for tests"
FRAMES = ("Call me: {}.", "my details are {} thanks", "{} is best", "Reach us ({}) after five", "reply to {}!")
VINS = ("2HKRS4H42TH719547", "1FMCU0JN7RL597423", "5YFT4MCE7TP890037", "1C6RREMG1SC750923")
CARDS = ("4111 1111 1111 1111", "5555-5555-5555-4444", "378282246310005", "6011111111111117")
STREETS = ("12 Oak Street", "4410 N. Alder Ave", "77 Harbor View Dr.", "905 MAIN ST", "8 Rosa Parks Blvd")
HARMLESS = (
    *("$36,310", "$999.50", "stock H26110", "stock P4471", "J2209A", "30,000 mile service", "part 04465-AZ200"),
    *("2026 Ford Escape ST-Line", "2024 Ford Explorer ST", "Saturday 10:00 or Saturday 14:00", "Mon-Sat 9:00-19:00"),
    *("part 90915-YZZD1", "$2,000 off", "a 2018 Silverado 1500 with 91,204 miles", "0W-20 oil", "225/65R17 tires"),
)


def planted(random: Random) -> list[tuple[str, str]]:
    digits = f"{random.randrange(2, 10)}{random.randrange(10, 100)}", f"{random.randrange(200, 1000)}"
    last = f"{random.randrange(10_000):04d}"
    phone = random.choice(("({}) {}-{}", "{}-{}-{}", "{}.{}.{}", "+1 {} {} {}", "1-{}-{}-{}", "{}{}{}"))
    host = random.choice(("example.com", "mail.example.co.uk"))
    email = f"{random.choice(('ana', 'j.doe', 'sam+ads'))}{random.randrange(99)}@{host}"
    return [
        ("phone", phone.format(*digits, last)),
        ("email", email),
        ("ssn", f"{random.randrange(100, 900)}-{random.randrange(10, 100)}-{last}"),
        ("vin", random.choice(VINS)),
        ("card", random.choice(CARDS)),
        ("address", random.choice(STREETS)),
        ("plate", f"plate {random.choice('ABC')}{random.randrange(100, 999)}XYZ"),
        ("licence", f"driver's license D{random.randrange(10**6, 10**7)}"),
    ]


def cleaned(text: str, *, names: tuple[str, ...] = ()) -> tuple[str, dict[str, int]]:
    result = scrub([Message(role="user", content=text)], names=names, key=KEY)
    return result.messages[0].content, dict(result.counts)


def test_planted_values_are_found() -> None:
    random = Random(5)
    planted_values = [pair for _ in range(200) for pair in planted(random)]

    missed = []
    for kind, value in planted_values:
        text, counts = cleaned(random.choice(FRAMES).format(value))
        if counts.get(kind) != 1 or value.split()[-1] in text:
            missed.append((kind, value, text))

    assert len(missed) / len(planted_values) <= 0.005, missed[:10]


def test_prices_stock_and_part_numbers_are_left_alone() -> None:
    changed = [text for value in HARMLESS for frame in FRAMES if cleaned(text := frame.format(value)) != (text, {})]

    assert changed == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ring 312 - 555 - 01 41 now", "phone"),
        ("ssn 123 45 6789", "ssn"),
        ("pay with 4111-11111-1111-111", "card"),
        ("me@example.com", "email"),
        (f"it is {VINS[0].lower()}", "vin"),
        ("PLATE'S NUMBER: abc-1234", "plate"),
        ("licence no. k1234567", "licence"),
        ("from Zoe with love", "name"),
        ("ask for zoe's car", "name"),
    ],
)
def test_the_second_scanner_finds_what_an_unexpected_layout_hid(text: str, kind: str) -> None:
    assert residual_kinds(text, key=KEY, names=("Zoë",)) == (kind,)


def test_the_second_scanner_finds_nothing_in_clean_and_in_scrubbed_text() -> None:
    random = Random(6)
    for value in HARMLESS:
        assert residual_kinds(value, key=KEY) == (), value
    for _ in range(50):
        for _, value in planted(random):
            assert residual_kinds(cleaned(f"Call me: {value}.")[0], key=KEY) == ()


NAMES = (
    *("Marisol Teague", "Zoë Núñez", "Seán O'Brien", "Ana-Maria Lopes", "Will Grant", "Rose Young", "Li Wei", "Bo Xu"),
    *("Dr. Kwame Mensah", "Lincoln Ford", "Łukasz Dąbrowski", "Mary Ann Smith Jr.", "D'Andre Fields", "Nguyen Thi Hoa"),
)
NAME_FRAMES = (
    "I am {}.",
    "{} here, is it sold?",
    "this is {first}",
    "Regards,\n{last}",
    "{upper} AGAIN",
    "{first}'s car",
)


def test_planted_names_are_found_in_the_ways_people_write_them() -> None:
    missed, tried = [], 0
    for name in NAMES:
        parts = name.replace("Dr. ", "").replace(" Jr.", "").split()
        for frame in NAME_FRAMES:
            text = frame.format(name, first=parts[0], last=parts[-1], upper=name.upper())
            tried += 1
            found = cleaned(text, names=(name,))[0]
            if any(len(part) > 1 and part.lower() in found.lower() for part in parts):
                missed.append((text, found))

    assert len(missed) / tried <= 0.05, missed


def test_the_second_scanner_finds_every_name_that_was_not_replaced_and_none_that_was() -> None:
    unseen, seen_in_clean = [], []
    for name in NAMES:
        parts = name.replace("Dr. ", "").replace(" Jr.", "").split()
        for frame in NAME_FRAMES:
            text = frame.format(name, first=parts[0], last=parts[-1], upper=name.upper())
            if residual_kinds(text, key=KEY, names=(name,)) != ("name",):
                unseen.append(text)
            if residual_kinds(cleaned(text, names=(name,))[0], key=KEY, names=(name,)):
                seen_in_clean.append(text)

    # One part of a customer called Lincoln Ford is a make.
    assert unseen == ["this is Lincoln", "Regards,\nFord", "Lincoln's car"]
    assert seen_in_clean == []


def test_the_second_scanner_shares_no_code_with_the_scrubber() -> None:
    imported = {module for module in _imports(second_scan) if module.startswith("auterity_dagster")}

    assert imported == set()
    assert _imports(scrub_module) >= {"auterity_dagster.neuroweaver.preparation.names"}


def _imports(module: ModuleType) -> set[str]:
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    return {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize(
    "text",
    [
        "I will come in may, mark my words, the rose red Ford at a good price",
        *HARMLESS,
    ],
)
def test_words_that_are_names_too_stay_where_they_are_words(text: str) -> None:
    names = ("Will May", "Mark Rose", "Grant Price", "Lincoln Ford")

    assert cleaned(text, names=names)[0] == text
    assert residual_kinds(text, key=KEY, names=names) == ()


def test_names_of_the_customer_record_are_replaced_and_others_are_not() -> None:
    text, counts = cleaned("I am Marisol Teague, ask Grant. MARISOL", names=("Marisol", "Teague"))

    assert text == "I am <NAME_1> <NAME_2>, ask Grant. <NAME_1>"
    assert counts == {"name": 3}


def test_a_surrogate_is_stable_in_a_conversation() -> None:
    messages = [
        Message(role="user", content="(312) 555-0141 or 614-555-0118"),
        Message(role="assistant", content="I will use 312-555-0141."),
    ]

    result = scrub(messages, names=(), key=KEY)

    assert [one.content for one in result.messages] == ["<PHONE_1> or <PHONE_2>", "I will use <PHONE_1>."]


@pytest.mark.parametrize("vin", VINS)
def test_a_vin_says_which_vehicle_it_was_and_no_longer_which_one(vin: str) -> None:
    text, _ = cleaned(vin)

    assert text[:8] == vin[:8]
    assert text != vin
    assert has_vin_check_digit(text)
    assert cleaned(vin)[0] == text
    assert residual_kinds(text, key=KEY) == ()
    assert residual_kinds(vin, key=KEY) == ("vin",)
    assert scrub([Message(role="user", content=vin)], names=(), key=b"another").messages[0].content != text


def test_a_true_vin_that_looks_like_a_surrogate_is_told_by_the_rows_it_came_from() -> None:
    surrogate = cleaned(VINS[0])[0]

    assert residual_kinds(f"vin {surrogate}", key=KEY, source_vins={surrogate}) == ("vin",)
    assert residual_kinds(f"vin {surrogate}", key=KEY, source_vins={VINS[0]}) == ()


def test_both_scanners_agree_on_check_digits_that_they_compute_apart() -> None:
    random = Random(8)
    alphabet = "0123456789ABCDEFGHJKLMNPRSTUVWXYZ"
    written = ["".join(random.choices(alphabet, k=17)) for _ in range(2000)]
    numbers = ["".join(random.choices("0123456789", k=random.randrange(13, 20))) for _ in range(2000)]

    assert [vin for vin in written if bool(second_scan.vins(vin)) != has_vin_check_digit(vin)] == []
    assert [one for one in numbers if ("card" in residual_kinds(one, key=KEY)) != passes_luhn(one)] == []


def test_check_digits_tell_cards_and_vins_from_other_numbers() -> None:
    assert passes_luhn("4111111111111111")
    assert not passes_luhn("4111111111111112")
    assert has_vin_check_digit(VINS[0])
    assert not has_vin_check_digit("2HKRS4H42TH719574")
    assert cleaned("2HKRS4H42TH719574")[1] == {}


@given(st.text(alphabet="aB1 0-9.()@+,$#:\n", min_size=1, max_size=200))
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    once, _ = cleaned(text)

    assert re.sub(r"<[A-Z]+_\d+>", "", cleaned(once)[0]) == re.sub(r"<[A-Z]+_\d+>", "", once)
