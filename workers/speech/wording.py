"""Numbers, money, times and abbreviations in words, before an engine that knows only letters sees them."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from num2words import CONVERTER_CLASSES, num2words

from workers.speech.languages import tongue

LONGEST = 15  # digits that anybody reads as one number; longer ones are said digit by digit
CURRENCIES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
POINTED = {"en", "zh", "ja", "ko", "th", "he", "te", "kn", "bn"}  # 1,234.5; elsewhere it is 1.234,5

# Where a language is not listed, the signs stay, and the engine reads them as it can.
SIGNS = {
    "en": {"%": "percent", "&": "and"},
    "de": {"%": "Prozent", "&": "und"},
    "es": {"%": "por ciento", "&": "y"},
    "fr": {"%": "pour cent", "&": "et"},
    "it": {"%": "per cento", "&": "e"},
    "nl": {"%": "procent", "&": "en"},
    "pt": {"%": "por cento", "&": "e"},
}
ABBREVIATIONS = {
    "en": {
        "approx.": "approximately",
        "dept.": "department",
        "dr.": "doctor",
        "e.g.": "for example",
        "etc.": "et cetera",
        "i.e.": "that is",
        "jr.": "junior",
        "mr.": "mister",
        "mrs.": "missus",
        "ms.": "miss",
        "mt.": "mount",
        "prof.": "professor",
        "sr.": "senior",
        "st.": "saint",
        "vs.": "versus",
    },
    "de": {
        "bzw.": "beziehungsweise",
        "ca.": "circa",
        "d.h.": "das heißt",
        "dr.": "Doktor",
        "nr.": "Nummer",
        "prof.": "Professor",
        "usw.": "und so weiter",
        "z.b.": "zum Beispiel",
    },
    "es": {"dr.": "doctor", "dra.": "doctora", "etc.": "etcétera", "sr.": "señor", "sra.": "señora"},
    "fr": {"dr.": "docteur", "etc.": "et cetera", "m.": "monsieur", "mme.": "madame", "p. ex.": "par exemple"},
}

Change = Callable[[re.Match[str]], str]


def worded(text: str, language: str) -> str:
    """The text as it is read aloud in this language; what cannot be worded stays as it is."""
    spoken = tongue(language)
    text = _without_abbreviations(text, ABBREVIATIONS.get(spoken, {}))
    if spoken in CONVERTER_CLASSES:
        text = _without_figures(text, spoken)
    for sign, word in SIGNS.get(spoken, {}).items():
        text = re.sub(rf"(?<=\w)\s?{re.escape(sign)}(?=[\s.,;:!?)]|$)", f" {word}", text)
    return text


def _without_abbreviations(text: str, known: dict[str, str]) -> str:
    if not known:
        return text
    pattern = "|".join(re.escape(short) for short in sorted(known, key=len, reverse=True))
    return re.sub(rf"(?<![\w.])(?:{pattern})", lambda found: known[found[0].lower()], text, flags=re.IGNORECASE)


def _without_figures(text: str, spoken: str) -> str:
    group, point = (",", ".") if spoken in POINTED else (".", ",")
    whole = rf"\d{{1,3}}(?:\{group}\d{{3}})+(?!\d)|\d+"
    number = rf"(?:{whole})(?:\{point}\d+)?"

    def value(figures: str) -> Decimal:
        return Decimal(figures.replace(group, "").replace(point, "."))

    def money(found: re.Match[str]) -> str:
        amount, currency = float(value(found["number"])), CURRENCIES[found["sign"]]
        words = num2words(amount, lang=spoken, to="currency", currency=currency, separator=" |")
        return words.split(" |")[0] if amount.is_integer() else words.replace(" |", "")

    def plain(found: re.Match[str]) -> str:
        figures = found[0]
        if len(figures.lstrip("-")) > LONGEST:
            return " ".join(num2words(int(digit), lang=spoken) for digit in figures if digit.isdecimal())
        amount = value(figures)
        if spoken == "en" and re.fullmatch(r"1[1-9]\d\d|20[1-9]\d", figures):
            return num2words(int(amount), lang=spoken, to="year")
        return num2words(amount if amount % 1 else int(amount), lang=spoken)

    text = _changed(rf"(?P<sign>[$€£¥])\s?(?P<number>{number})(?!\d)", money, text)
    text = _changed(rf"(?P<number>{number})\s?(?P<sign>[€£])", money, text)
    if spoken == "en":
        text = _changed(r"(?<![\d:])\d{1,2}:[0-5]\d(?![\d:])", _clock, text)
        text = _changed(r"(?<!\w)\d{1,15}(?=(?:st|nd|rd|th)\b)(?:st|nd|rd|th)", _ordinal, text)
    return _changed(rf"(?:(?<![\w.,-])-)?(?<![A-Za-z_\d]){number}(?![A-Za-z_\d])", plain, text)


def _clock(found: re.Match[str]) -> str:
    hour, minute = (int(part) for part in found[0].split(":"))
    if not minute:
        return f"{num2words(hour)} o'clock"
    return f"{num2words(hour)} {'oh ' if minute < 10 else ''}{num2words(minute)}"


def _ordinal(found: re.Match[str]) -> str:
    return num2words(int(found[0][:-2]), to="ordinal")


def _changed(pattern: str, change: Change, text: str) -> str:
    def attempt(found: re.Match[str]) -> str:
        try:
            return change(found)
        except (NotImplementedError, OverflowError, ArithmeticError, KeyError, IndexError, ValueError):
            return found[0]  # num2words has no words for it in this language

    return re.sub(pattern, attempt, text)
