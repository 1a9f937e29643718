"""Sample ADF documents, damaged as senders, mail gateways and attackers damage them; the same ones for a seed."""

from collections.abc import Callable, Iterator
from importlib.resources import files
from random import Random

SAMPLES = files("auterity_dagster.automatrix") / "samples"
PIECES = (
    b"<", b">", b"&", b"</adf>", b"<adf ", b"&lt;adf&gt;", b"<![CDATA[", b"]]>", b"<!--", b"-->", b"<?x", b"\x00",
    b"\xff\xfe", b"\xef\xbb\xbf", b"<prospect>", b"</prospect>", b"<!DOCTYPE adf [", b"<!ENTITY a 'b'>", b"&#0;",
    b"&#xD800;", b"&#1114112;",
    b'"', b"'", b"=", b"\r", b"\x85", b"\xe2\x80\xa8", b"{{7*7}}", b"${{ vars }}",
    b"' OR 1=1 --", b"987-65-4321", b"DOB 01/02/1980",
)  # fmt: skip

Mutation = Callable[[bytes, Random], bytes]


def _cut(raw: bytes, random: Random) -> bytes:
    start = random.randrange(len(raw))
    return raw[:start] + raw[start + random.randrange(1, 200) :]


def _truncate(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw))]


def _insert(raw: bytes, random: Random) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + random.choice(PIECES) + raw[place:]


def _flip(raw: bytes, random: Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(random.randrange(1, 8)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _double(raw: bytes, random: Random) -> bytes:
    start = random.randrange(len(raw))
    piece = raw[start : start + random.randrange(1, 300)]
    return raw[:start] + piece * random.randrange(2, 6) + raw[start:]


def _swap_tags(raw: bytes, random: Random) -> bytes:
    names = [b"name", b"email", b"phone", b"vehicle", b"contact", b"customer", b"comments", b"id", b"year"]
    one, other = random.sample(names, 2)
    return raw.replace(b"<" + one, b"<" + other, random.randrange(1, 3))


def _recode(raw: bytes, random: Random) -> bytes:
    text = raw.decode("utf-8", "replace")
    return text.encode(random.choice(["utf-16", "cp1252", "latin-1", "utf-8-sig", "utf-7"]), "replace")


def _change_case(raw: bytes, random: Random) -> bytes:
    return raw.upper() if random.random() < 0.5 else raw.swapcase()


def _nest(raw: bytes, random: Random) -> bytes:
    depth = random.randrange(2, 60)
    return raw.replace(b"<customer>", b"<x>" * depth + b"<customer>", 1)


def _escape(raw: bytes, _random: Random) -> bytes:
    return raw.replace(b"&", b"&amp;").replace(b"<", b"&lt;")


MUTATIONS: tuple[Mutation, ...] = (
    _cut, _truncate, _insert, _flip, _double, _swap_tags, _recode, _change_case, _nest, _escape,
)  # fmt: skip


def mutated_documents(count: int, *, seed: int) -> Iterator[bytes]:
    """Yield damaged samples; each has one to four of the damages."""
    random = Random(seed)
    samples = [(SAMPLES / f"lead_{number:02}.xml").read_bytes() for number in range(1, 21)]
    for _ in range(count):
        raw = random.choice(samples)
        for _damage in range(random.randrange(1, 5)):
            raw = random.choice(MUTATIONS)(raw, random) or b"<"
        yield raw
