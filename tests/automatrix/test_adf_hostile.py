"""No bytes crash the reader, nothing is expanded or fetched, and size and depth are bounded."""

from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auterity_dagster.automatrix.adf import read_adf
from auterity_dagster.automatrix.adf_text import BYTE_LIMIT
from auterity_dagster.automatrix.lead import Lead, ReadLead
from auterity_dagster.automatrix.lead_judgement import ReadingContext
from auterity_dagster.automatrix.quarantine import Quarantined, QuarantineReason

SAMPLES = files("auterity_dagster.automatrix") / "samples"
ALL_SAMPLES = [(SAMPLES / f"lead_{number:02}.xml").read_bytes() for number in range(1, 21)]
CONTEXT = ReadingContext(received_at=datetime(2026, 11, 24, tzinfo=UTC), zone=ZoneInfo("America/Chicago"))
LEAD = (
    "<adf><prospect><id>1</id><customer><contact><name>A</name><email>a@example.com</email></contact>"
    "<comments>{}</comments></customer><provider><name>P</name></provider></prospect></adf>"
)


def outcome(raw: bytes) -> tuple[ReadLead, ...] | QuarantineReason:
    try:
        return read_adf(raw, context=CONTEXT)
    except Quarantined as refused:
        return refused.reason


def comments(raw: bytes) -> str:
    (lead,) = read_adf(raw, context=CONTEXT)
    assert isinstance(lead, Lead)
    return lead.comments


@st.composite
def damaged_samples(draw: st.DrawFn) -> bytes:
    """A sample with pieces cut out, doubled or overwritten."""
    raw = bytearray(draw(st.sampled_from(ALL_SAMPLES)))
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(raw)))
        piece = draw(st.one_of(st.binary(max_size=12), st.sampled_from([b"<", b"&", b"</adf>", b"<adf ", b"&lt;adf>"])))
        raw[start : start + draw(st.integers(0, 40))] = piece
    return bytes(raw)


@given(st.one_of(st.binary(max_size=400), st.text(max_size=400).map(lambda text: text.encode("utf-8", "replace"))))
@example(b"<adf>" + b"<![CDATA[" * 20000)
@example(b"<!DOCTYPE" * 20000)
@example(b"&lt;adf" * 30000)
@example(b"<adf>&#xD800;&#0;</adf>")
@example(b"\xff\xfe<\x00a\x00d\x00f\x00>\x00")
def test_any_bytes_give_leads_or_a_reason_and_the_same_ones_again(raw: bytes) -> None:
    assert outcome(raw) == outcome(raw)


@settings(max_examples=400, deadline=None)
@given(damaged_samples())
def test_a_damaged_document_gives_leads_or_a_reason_and_the_same_ones_again(raw: bytes) -> None:
    assert outcome(raw) == outcome(raw)


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=300))
def test_any_text_in_a_free_field_still_gives_one_lead(text: str) -> None:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

    assert isinstance(outcome(LEAD.format(escaped).encode()), (tuple, QuarantineReason))


def test_an_external_entity_reads_no_file(tmp_path: Path) -> None:
    canary = tmp_path / "canary.txt"
    canary.write_text("canary-7f3a")
    attacks = [
        f'<!DOCTYPE adf [<!ENTITY x SYSTEM "{canary.as_uri()}">]>' + LEAD.format("&x;"),
        f'<!DOCTYPE adf SYSTEM "{canary.as_uri()}">' + LEAD.format("&x;"),
        LEAD.format(f'<!DOCTYPE adf [<!ENTITY x SYSTEM "{canary.as_uri()}">]>&x;'),
        LEAD.format(f'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="{canary.as_uri()}" parse="text"/>'),
        f'&lt;!DOCTYPE adf [&lt;!ENTITY x SYSTEM "{canary.as_uri()}">]>&lt;adf>&x;&lt;/adf>',
    ]

    assert [
        repr(outcome(attack.encode())) for attack in attacks if "canary-7f3a" in repr(outcome(attack.encode()))
    ] == []


def test_the_canary_would_be_seen(tmp_path: Path) -> None:
    assert comments(LEAD.format("canary-7f3a").encode()) == "canary-7f3a"


@pytest.mark.parametrize("declaration", ['<!ENTITY a "b">', "<!DOCTYPE adf [ ]>", "<!doctype ADF[<!ELEMENT a ANY>]>"])
def test_a_declaration_quarantines_the_document_wherever_it_stands(declaration: str) -> None:
    assert outcome((declaration + LEAD.format("x")).encode()) == QuarantineReason.ENTITY_FORBIDDEN
    assert outcome(LEAD.format(declaration).encode()) == QuarantineReason.ENTITY_FORBIDDEN


def test_an_html_body_may_name_its_document_type() -> None:
    body = "<!DOCTYPE html><html><body>" + LEAD.format("hello") + "</body></html>"

    assert comments(body.encode()) == "hello"


def test_an_undefined_entity_stays_text() -> None:
    assert comments(LEAD.format("a &file; b").encode()) == "a &file; b"


def test_more_than_256_kb_is_refused_and_256_kb_is_read() -> None:
    room = BYTE_LIMIT - len(LEAD.format(""))

    assert comments(LEAD.format("x" * room).encode()) == "x" * room
    assert outcome(LEAD.format("x" * (room + 1)).encode()) == QuarantineReason.TOO_LARGE


def test_deep_nesting_is_refused() -> None:
    assert outcome(LEAD.format("<a>" * 20000 + "</a>" * 20000).encode()) == QuarantineReason.TOO_DEEP


def test_only_bare_signs_are_repaired_and_cdata_is_left_alone() -> None:
    assert comments(LEAD.format("1 & 2 < 3 <![CDATA[& <b> &nbsp;]]> &eacute;").encode()) == "1 & 2 < 3 & <b> &nbsp; é"


def test_an_absurdly_long_id_still_gives_a_key_that_an_index_holds() -> None:
    keys = set[str]()
    for last in "ab":
        (lead,) = read_adf(LEAD.format("x").replace(">1<", f">{'i' * 100_000}{last}<").encode(), context=CONTEXT)
        assert isinstance(lead, Lead)
        keys.add(lead.dedupe_key)

    assert len(keys) == 2
    assert max(map(len, keys)) <= 300


def test_blank_lines_cost_linear_time() -> None:
    text = "a" + "\n " * 100_000 + "b"

    assert comments(LEAD.format(text).encode()) == text
