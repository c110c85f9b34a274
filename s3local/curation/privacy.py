"""Personal data in gold rows: found by rules, kept out of synthetic rows, and replaced before a prompt shows a row.

The recogniser needs no model and no network: patterns for what has a form (e-mail and web addresses, telephone and
account numbers, IBAN, IP addresses, dates of birth, postal addresses), and the first names of Faker's lists (MIT
licence) for persons. It is made for English and German. It misses names without a first name, a title or a greeting,
names in lower case, and secrets that look like ordinary words.

Replaced values are invented ones of the same kind, and not placeholders: a small teacher continues natural text better,
and what it repeats of them is invented already.
"""

from __future__ import annotations

import importlib
import ipaddress
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Literal

from s3local.curation.rules import Finding, sift
from s3local.records import Answer, Candidate, Example, FilterResult
from s3local.seeds import derive_seed
from s3local.text import normal_form

if TYPE_CHECKING:
    from faker import Faker

Kind = Literal["email", "url", "iban", "ip", "birth_date", "address", "phone", "account", "name"]


@dataclass(frozen=True, slots=True)
class PrivacySettings:
    """How personal data of gold rows is kept out of what a run writes.

    ``drop_personal``: drop synthetic rows that repeat a value of a gold row. ``redact``: replace personal data in gold
    rows by invented values before a prompt shows them.
    """

    drop_personal: bool = True
    redact: bool = False


PUBLIC_ROWS = 3
"""A name in this many gold rows is treated as public: synthetic rows may have it."""
MIN_VALUE_CHARACTERS = 6
"""Shorter values are too common to tell a copy by."""

LOCALES = {
    "english": "en_US",
    "german": "de_DE",
    "french": "fr_FR",
    "spanish": "es_ES",
    "italian": "it_IT",
    "dutch": "nl_NL",
    "portuguese": "pt_PT",
    "polish": "pl_PL",
    "swedish": "sv_SE",
    "turkish": "tr_TR",
}
"""A task's language to the locale of invented values; other languages get English ones."""
NAME_LOCALES = ("en_US", "en_GB", "en_IN", "de_DE", "fr_FR", "es_ES", "it_IT", "nl_NL", "pl_PL", "sv_SE", "tr_TR")
"""The lists of first names that persons are recognised by."""

_NOT_FIRST_NAMES = frozenset(
    """
    abril america april asia august austin brooklyn can carolina chance charlotte chase chelsea china christian
    dakota dallas dan das denver der destiny die eden ein eine ende england faith florence france frei georgia
    grace grant gut heil hier holland hope houston hunter india israel jersey jordan journey kai karl-marx kent
    kim king lieb lincoln linde london madison mai major marina marine mark mars may mehr mercedes miracle misty
    mit nur paris patience per phoenix porsche precious prince reagan river rosa royal said santa santana
    savannah sein september serenity sie sierra sonne stein summer sydney temple texas the trinity troy und
    viola virginia washington west will winter wolf
    """.split()  # noqa: SIM905
)
"""First names that are at least as often something else. They count before a known last name only."""
_NOT_LAST_NAMES = frozenset(
    """
    a aber airlines airport am an and are as at auf aus avenue bank beach bei bis bitte bowl bridge but by can
    canyon church city college company corp corporation county court cup dam das day dem den der did die do does
    ein eine er es festival for fort from für group had hall has hat have he her heute hier his hospital hotel
    house how i ich if ihr im in inc international is island islands ist it kann lake ltd mein meine mit monday
    mountain museum my nach nicht not oder of on open or our palace park plaza point port prison road saturday
    school sea she sie sind so square state states street sunday that the their they this thursday to tower
    towers trophy tuesday und university valley vom von war was we wednesday wenn what when where which who why
    wie will wir with world you your zu zum
    """.split()  # noqa: SIM905
)
"""Words that are capitalised after a first name without being a last name."""

_WORD = r"[A-ZÀ-ÖØ-ÞŁŚŻŠŽ][\w'’]{0,30}(?:-[\w'’]{1,30}){0,3}"
_PARTICLE = r"(?:(?:von|van|de|der|den|di|da|la|le|zu|al|el|bin) ){1,3}"
_TITLES = r"Mr|Mrs|Ms|Miss|Mx|Dr|Prof|Professor|Sir|Madam|Dame|Herrn?|Frau|Señora?|Madame|Monsieur|Doktor"
_DATE = (
    r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}|\d{1,2}(?:st|nd|rd|th)?\.?(?: of)? \w{3,9}\.?,? \d{4}|"
    r"[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"
)
_STREETS_EN = (
    r"Street|St\b\.?|Road|Rd\b\.?|Avenue|Ave\b\.?|Lane|Ln\b\.?|Drive|Boulevard|Blvd\b\.?|Way|Court|Place|Square|Close|"
    r"Terrace|Crescent|Gardens|Hill|Row|Parkway|Mews"
)
_STREETS_DE = r"(?:stra(?:ß|ss)e|str\.|weg|gasse|platz|allee|ring|damm|ufer|chaussee|steig)"
_CITY_EN = r"(?:,? (?:Apt|Apartment|Flat|Unit|Suite) ?\.?#?\w{1,5})?(?:, [A-Z][a-z'-]+(?: [A-Z][a-z'-]+){0,2})?"
_POSTCODE_EN = r"(?:,? [A-Z]{2} \d{5}(?:-\d{4})?|,? [A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2})?"
_CITY_DE = r"(?:,? (?:in )?(?:D-)?\d{5} [A-ZÄÖÜ][\wäöüß-]+(?: (?:am|an der|im) [A-ZÄÖÜ]\w+)?)?"
_ACCOUNT_WORDS = (
    r"(?:bank |customer |client |member(?:ship)? |policy |passport |licen[cs]e |card |order |booking |patient |tax |"
    r"social security |insurance |reference |case |ticket |contract |invoice )?"
    r"(?:account|acct|customer|client|member(?:ship)?|policy|passport|licen[cs]e|card|patient|ssn|booking|reference|ref|"
    r"contract|invoice|case|ticket|order|security|tax)"
    r"|(?:konto|kunden|karten|vertrags|versicherungs|steuer|ausweis|mitglieds|rechnungs|bestell|auftrags|depot|"
    r"patienten|personal|buchungs|matrikel)-?(?:nummer|nr\.?|id)|konto|steuer-?id|aktenzeichen|bestellung|auftrag|reisepass|"
    r"kreditkarte"
)

_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("email", re.compile(r"(?<![\w.+%-])[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")),
    ("url", re.compile(r"(?:(?:https?|ftp)://|\bwww\.)[^\s<>\"]+[^\s<>\".,;:!?)\]']", re.IGNORECASE)),
    ("url", re.compile(r"(?<![\w.-])(?:[a-z0-9-]{1,63}\.){1,4}(?:com|org|net|de|uk|io|at|ch)/[^\s<>\".,;!?)]+", re.I)),
    ("iban", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("ip", re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")),
    ("ip", re.compile(r"(?<![\w:])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])")),
    ("birth_date", re.compile(
        rf"(?:\bborn\b|\bbirth\w*|\bd\.?o\.?b\b\.?|\bgeb(?:oren)?\b\.?|\bgeburts\w+|(?<!\w)\*)"
        rf"[^\d\n]{{0,24}}?(?P<value>{_DATE})",
        re.IGNORECASE,
    )),
    ("birth_date", re.compile(rf"(?P<value>{_DATE})(?: geboren| zur Welt|[^\d\n.]{{0,24}}birthday)")),
    ("address", re.compile(
        rf"\b(?:(?:Flat|Apt|Unit|Suite)\.? \w{{1,4}}, )?\d{{1,5}}[a-zA-Z]? (?:[A-Z][\w'.-]+ ){{1,3}}?(?:{_STREETS_EN})"
        rf"{_CITY_EN}{_POSTCODE_EN}"
    )),
    ("address", re.compile(r"\b[A-Z][\w'-]{1,30}(?: [A-Z][\w'-]{1,30})?, [A-Z]{2} \d{5}(?:-\d{4})?\b")),
    ("address", re.compile(r"\b[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}\b")),
    ("address", re.compile(r"\bP\.?\s?O\.? Box \d+|\bPostfach \d[\d ]*\d", re.IGNORECASE)),
    ("address", re.compile(
        rf"(?<![\w-])(?:(?:[A-ZÄÖÜ][\wäöüß-]{{0,30}} )?[A-ZÄÖÜ][\wäöüß-]{{0,30}}(?<=\w){_STREETS_DE}|"
        rf"[A-ZÄÖÜ][\wäöüß-]{{0,30}} (?:Straße|Strasse|"
        rf"Str\.|Weg|Allee|Platz|Gasse|Ring|Damm|Ufer)|"
        rf"(?:Am|An der|An den|Im|Zum|Zur|Auf der|Auf dem|In der|Unter den) "
        rf"[A-ZÄÖÜ][\wäöüß-]{{1,30}}) \d{{1,4}}(?: ?[a-z]\b)?(?![\d.:%]){_CITY_DE}"
    )),
    ("address", re.compile(r"\bD-\d{5} [A-ZÄÖÜ][\wäöüß-]+")),
    ("account", re.compile(
        rf"\b(?:{_ACCOUNT_WORDS})s?\b\.?(?: (?:number|no\.?|nr\.?|id|code|nummer))?"
        r"(?: (?:is|was|ends in|lautet|ist|war))?"
        r"[ :#]{1,3}(?P<value>(?=(?:(?:[^\W\d]|[/-]){0,30}\d){3})[A-Z0-9][\w/-]*(?: \d{2,6})*)", re.IGNORECASE,
    )),
    ("account", re.compile(r"\b\d{3}-\d{2}-\d{4}\b|\b(?:\d{4}[ -]){3}\d{1,7}\b")),
    ("phone", re.compile(r"(?<![\w+])(?:\+|00)\d{1,3}[ ./()-]{0,2}(?:\(0\)[ ./-]?)?\d(?:[ ./()-]{0,2}\d){5,12}(?!\d)")),
    ("phone", re.compile(r"(?<![\w.,/(-])\(?0\d{1,5}\)?[ ./-]{1,3}\d{2,}(?:[ ./-]\d{2,})*(?![\d%])")),
    ("phone", re.compile(r"(?<![\w.,-])0\d{8,11}(?!\d)")),
    ("phone", re.compile(r"(?<![\w.,-])(?:1[-. ])?(?:\(\d{3}\) ?|\d{3}[-. ])\d{3}[-. ]\d{4}(?!\d)")),
    ("phone", re.compile(r"(?<![\w.,$-])\d{3}-\d{4}(?![\d-])")),
    ("phone", re.compile(
        r"\b(?:call|phone|tel|telephone|telefon|mobile|handy|fax|text|dial|ring|rufnummer)\b\.?[^\d\n]{0,16}?"
        r"(?P<value>\d(?:[ ./-]?\d){5,12})(?!\d)", re.IGNORECASE,
    )),
    ("account", re.compile(r"(?<![\w.,/-])\d{8,}(?![\w.,/-]*\d)")),
    ("account", re.compile(
        r"(?<![\w-])(?=[0-9-]{0,30}[A-Z])(?=(?:[A-Z-]{0,30}\d){3})(?=[A-Z0-9-]{7,40}(?![\w-]))[A-Z0-9]+(?:-[A-Z0-9]+)*"
    )),
    ("name", re.compile(
        rf"\b(?:{_TITLES})\b\.? (?:(?:{_TITLES})\b\.? )*(?P<value>(?:{_WORD} |[A-Z]\. ){{0,2}}(?:{_PARTICLE})?{_WORD})"
    )),
    ("name", re.compile(
        rf"\b(?:[Mm]y (?:full )?name is|[Mm]ein Name ist|[Ii]ch hei(?:ß|ss)e|(?:named|called)|namens|[Nn]ame:) "
        rf"(?P<value>{_WORD}(?: [A-Z]\.)?(?: (?:{_PARTICLE})?{_WORD}){{0,2}})"
    )),
    ("name", re.compile(
        rf"(?:\b(?:[Rr]egards|[Ss]incerely|[Cc]heers|Gr(?:ü|ue)(?:ß|ss)en?|Gru(?:ß|ss)),?\s+)"
        rf"(?P<value>{_WORD}(?: {_WORD}){{0,2}})"
    )),
)  # fmt: skip
"""How values of each kind are written; an earlier pattern wins where two overlap. A group "value" is the value."""

_GREETED = re.compile(rf"\b(?:[Dd]ear|[Hh]i|[Hh]ello|[Ll]iebe[rn]?|[Hh]allo) (?P<value>{_WORD})(?=[,!. ]|$)")
_FULL_NAME = re.compile(
    rf"\b(?P<first>{_WORD})(?: [A-Z]\.| {_WORD}(?= (?:{_PARTICLE})?[A-Z]))?(?: (?:{_PARTICLE})?{_WORD})"
)
_IBAN_CUE = re.compile(r"\biban\b\W{0,3}$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Found:
    """Personal data at ``start`` to ``end`` of a text."""

    kind: Kind
    start: int
    end: int
    value: str


def find_personal_data(text: str, names: Iterable[str] = ()) -> list[Found]:
    """The personal data in ``text``, in order, without overlaps; ``names`` are words that are names here as well."""
    found: list[Found] = []
    taken = bytearray(len(text))

    def take(kind: Kind, start: int, end: int) -> None:
        if start < end and not any(taken[start:end]):
            taken[start:end] = b"\1" * (end - start)
            found.append(Found(kind, start, end, text[start:end]))

    for kind, pattern in _PATTERNS:
        for match in pattern.finditer(text):
            start, end = match.span("value" if "value" in pattern.groupindex else 0)
            if kind == "name":
                end = _end_of_name(text, start, end)
            if _is_sound(kind, text, start, end):
                take(kind, start, end)
    for start, end in _persons(text):
        take("name", start, end)
    _take_parts_of_names(text, {*names, *_words_of_names(found)}, take)
    return sorted(found, key=lambda its: its.start)


def _is_sound(kind: Kind, text: str, start: int, end: int) -> bool:
    """Whether a match of a pattern is what it looks like."""
    value = text[start:end]
    if kind == "iban":
        return _iban_checks(value) or _IBAN_CUE.search(text[max(0, start - 12) : start]) is not None
    if kind == "ip":
        try:
            ipaddress.ip_address(value)
        except ValueError:
            return False
        return len(value) > 4
    if kind == "phone":
        return 6 <= sum(map(str.isdigit, value)) <= 15 and not re.fullmatch(_DATE, value)
    return True


def _iban_checks(value: str) -> bool:
    """Whether the check digits of an IBAN are right (ISO 13616: modulo 97)."""
    compact = value.replace(" ", "")
    if not 15 <= len(compact) <= 34:
        return False
    return int("".join(str(int(character, 36)) for character in compact[4:] + compact[:4])) % 97 == 1


def _persons(text: str) -> Iterable[tuple[int, int]]:
    """Start and end of names that begin with a known first name, and of first names in a greeting."""
    firsts, lasts = _known_names()
    at = 0
    while match := _FULL_NAME.search(text, at):
        first = match["first"].casefold().split("-")[0]
        end = _end_of_name(text, match.start(), match.end())
        at = match.start("first") + len(match["first"])
        if first not in firsts or end <= at:
            continue
        last = text[match.start() : end].split()[-1].casefold()
        if first not in _NOT_FIRST_NAMES or last in lasts:
            yield match.start(), end
            at = end
    for match in _GREETED.finditer(text):
        if match["value"].casefold().split("-")[0] in firsts:
            yield match.span("value")


def _end_of_name(text: str, start: int, end: int) -> int:
    """Where a name really ends: before the first word that cannot be part of one."""
    for word in re.finditer(r"\S+", text[start:end]):
        if word.start() and word.group()[0].isupper() and word.group().casefold() in _NOT_LAST_NAMES:
            return start + len(text[start : start + word.start()].rstrip())
    return end


def _words_of_names(found: Iterable[Found]) -> set[str]:
    """The words of all names in ``found`` by which a person may be mentioned again."""
    return {word for its in found if its.kind == "name" for word in its.value.split() if len(word) > 2}


def _take_parts_of_names(text: str, words: set[str], take: Callable[[Kind, int, int], None]) -> None:
    """Add mentions of a person by one word of the full name."""
    for match in re.finditer(rf"\b{_WORD}", text) if words else ():
        if match.group() in words:
            take("name", *match.span())


@cache
def _known_names() -> tuple[frozenset[str], frozenset[str]]:
    """First names and last names of all ``NAME_LOCALES``, case-folded."""
    firsts: set[str] = set()
    lasts: set[str] = set()
    for locale in NAME_LOCALES:
        provider = importlib.import_module(f"faker.providers.person.{locale}").Provider
        for words, known in ((provider.first_names, firsts), (provider.last_names, lasts)):
            known.update(word.casefold() for word in words if len(word) > 2)
    return frozenset(firsts), frozenset(lasts)


# Synthetic rows


class PersonalData:
    """The personal data of gold rows, which no synthetic row may repeat.

    A name of one word, a name in ``PUBLIC_ROWS`` rows or more, and a value of fewer than ``MIN_VALUE_CHARACTERS``
    letters and digits may be repeated.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        names: Counter[str] = Counter()
        self._values: dict[str, Kind] = {}
        for text in texts:
            found = find_personal_data(text)
            names.update({normal_form(its.value) for its in found if its.kind == "name"})
            self._values.update({_compact(its.value): its.kind for its in found if its.kind != "name"})
        self._values = {value: kind for value, kind in self._values.items() if len(value) >= MIN_VALUE_CHARACTERS}
        self._names = [name for name, rows in names.items() if " " in name and rows < PUBLIC_ROWS]

    def find(self, text: str) -> Finding | None:
        """Reason, score (1) and detail (its kind) of the drop of a text that repeats a value; None if it does not."""
        compact, normal = _compact(text), f" {normal_form(text)} "
        kind = next((kind for value, kind in self._values.items() if value in compact), None)
        if kind is None and any(f" {name} " in normal for name in self._names):
            kind = "name"
        return None if kind is None else ("repeats_personal_data", 1.0, f"{kind.replace('_', ' ')} of a gold row")

    def filter(self, candidates: Sequence[Candidate], target_field: str) -> FilterResult:
        """Keep the candidates whose ``target_field`` repeats no value of a gold row."""
        return sift(candidates, lambda candidate: self.find(candidate.example.fields[target_field]))


def _compact(text: str) -> str:
    """The letters and digits of ``text``, case-folded, so that a number is the same with and without separators."""
    return "".join(filter(str.isalnum, text.casefold()))


# Prompts


class Pseudonymiser:
    """Replaces personal data by invented values of the same kind, each value of a row always by the same one.

    The invented values depend on ``seed`` and the row's id, and not on the values that they replace. ``language`` is
    the task's language, such as "German".
    """

    def __init__(self, seed: int, language: str) -> None:
        from faker import Faker

        self._seed = seed
        self._faker = Faker(LOCALES.get(language.casefold(), "en_US"))

    def text(self, row_id: str, text: str) -> str:
        """``text`` with invented values."""
        return self._row(row_id).apply(text)[0]

    def example(self, row: Example) -> Example:
        """``row`` with invented values in all fields and answers.

        An answer inside of a replaced value becomes the whole invented value.
        """
        values = self._row(row.id)
        names = {word for text in row.fields.values() for word in _words_of_names(find_personal_data(text))}
        fields, edits = {}, {}
        for name, text in row.fields.items():
            fields[name], edits[name] = values.apply(text, names)
        answers = row.answers
        for name, text in row.fields.items():
            if answers and all(answer.stands_in(text) for answer in row.answers):
                answers = tuple(_moved(answer, edits[name], fields[name]) for answer in row.answers)
                break
        return Example(row.id, fields, row.label, answers)

    def _row(self, row_id: str) -> _Values:
        return _Values(self._faker, derive_seed(self._seed, zlib.crc32(row_id.encode())))


Edit = tuple[int, int, int, int]
"""Start and end of a value in a text, and start and end of what replaced it."""


class _Values:
    """The invented values of one row."""

    def __init__(self, faker: Faker, seed: int) -> None:
        self._faker = faker
        self._invented: dict[tuple[Kind, str], str] = {}
        faker.seed_instance(seed)

    def apply(self, text: str, names: Iterable[str] = ()) -> tuple[str, list[Edit]]:
        """``text`` with invented values, and where they are; ``names`` are words that are names here as well."""
        pieces: list[str] = []
        edits: list[Edit] = []
        at = length = 0
        for found in find_personal_data(text, names):
            before = text[at : found.start]
            value = self._replacement(found)
            length += len(before)
            edits.append((found.start, found.end, length, length + len(value)))
            pieces += [before, value]
            length += len(value)
            at = found.end
        return "".join([*pieces, text[at:]]), edits

    def _replacement(self, found: Found) -> str:
        if found.kind == "name":
            words = found.value.split()
            inventors = [_first_name if place == 0 and len(words) > 1 else _last_name for place in range(len(words))]
            return " ".join(map(partial(self._once, "name"), words, inventors))
        return self._once(found.kind, found.value, _INVENTORS[found.kind])

    def _once(self, kind: Kind, value: str, invent: Callable[[Faker, str], str]) -> str:
        key = kind, value if kind == "name" else _compact(value)
        if key not in self._invented:
            made = invent(self._faker, value)
            while made == value and value[0].isupper():  # by chance
                made = invent(self._faker, value)
            self._invented[key] = made
        return self._invented[key]


def _first_name(faker: Faker, value: str) -> str:
    return str(faker.first_name())


def _last_name(faker: Faker, value: str) -> str:
    if not value[0].isupper():  # a particle, such as "von"
        return value
    return f"{faker.random_uppercase_letter()}." if len(value) <= 2 else str(faker.last_name())


def _digits(faker: Faker, value: str) -> str:
    """``value`` with other digits and other capital letters in the same places; a first 0 stays."""
    made = []
    for place, character in enumerate(value):
        if character.isdigit():
            is_first = not any(map(str.isdigit, value[:place]))
            made.append("0" if is_first and character == "0" else str(faker.random_digit()))
        else:
            made.append(str(faker.random_uppercase_letter()) if character.isupper() else character)
    return "".join(made)


def _phone(faker: Faker, value: str) -> str:
    """The country's and the area's form stay; other digits take the places of the rest."""
    prefix = re.match(r"\+\d{1,2}|00\d{1,2}|0", value)
    kept = prefix.end() if prefix else 0
    return value[:kept] + "".join(str(faker.random_int(1, 9)) if its.isdigit() else its for its in value[kept:])


def _date(faker: Faker, value: str) -> str:
    """Another date in the same form: numbers of one or two digits are from 1 to 12, so that any order is a date."""

    def number(match: re.Match[str]) -> str:
        if len(match.group()) > 2:
            return str(faker.random_int(1940, 2005))
        made = str(faker.random_int(1, 12))
        return made.zfill(2) if match.group().startswith("0") else made

    return re.sub(r"\d+", number, value)


def _iban(faker: Faker, value: str) -> str:
    """An IBAN of the same country, form and length, with right check digits."""
    body = "".join(str(faker.random_digit()) for character in value[4:] if character != " ")
    rest = 98 - int("".join(str(int(character, 36)) for character in f"{body}{value[:2]}00")) % 97
    characters = iter(f"{value[:2]}{rest:02}{body}")
    return "".join(" " if character == " " else next(characters) for character in value)


def _address(faker: Faker, value: str) -> str:
    return str(faker.address()).replace("\n", ", ") if "," in value else str(faker.street_address()).replace("\n", ", ")


def _ip(faker: Faker, value: str) -> str:
    """An address of the networks that are kept for documentation (RFC 5737, RFC 3849)."""
    return f"2001:db8::{faker.random_int(1, 9999)}" if ":" in value else f"192.0.2.{faker.random_int(1, 254)}"


_INVENTORS: Mapping[Kind, Callable[[Faker, str], str]] = {
    "email": lambda faker, value: str(faker.safe_email()),
    "url": lambda faker, value: f"https://www.example.org/{faker.slug()}",
    "iban": _iban,
    "ip": _ip,
    "birth_date": _date,
    "address": _address,
    "phone": _phone,
    "account": _digits,
}


def _moved(answer: Answer, edits: Sequence[Edit], text: str) -> Answer:
    """``answer`` where it is in ``text`` after ``edits``; it grows to hold the invented values that it touches."""
    start, end = answer.start, answer.start + len(answer.text)
    new_start, new_end, shift = start, end, 0
    first = True
    for begin, stop, new_begin, new_stop in edits:
        if stop <= start:
            shift = new_stop - stop
            new_start, new_end = start + shift, end + shift
        elif begin < end:
            if first:
                new_start = new_begin if begin <= start else start + shift
            first = False
            shift = new_stop - stop
            new_end = new_stop if stop >= end else end + shift
    return Answer(text[new_start:new_end], new_start)
