"""Words for figures, and where a text is cut."""

from __future__ import annotations

import pytest

from workers.speech.sentences import sentences
from workers.speech.wording import worded


@pytest.mark.parametrize(
    ("language", "text", "said"),
    [
        ("en", "Dr. Fox pays $5.50 & 20%.", "doctor Fox pays five dollars fifty cents and twenty percent."),
        ("en-gb", "£3 at 5:30, 9:05, 7:00", "three pounds sterling at five thirty, nine oh five, seven o'clock"),
        ("en", "the 21st of 1,234.5 in 1999", None),
        ("eng", "-3 and 2.50", "minus three and two point five"),
        ("de", "3,5 kg für 1.200 €, z.B.", "drei Komma fünf kg für eintausendzweihundert Euro, zum Beispiel"),
        ("fr-fr", "21 chats", "vingt et un chats"),
        ("cmn", "Room v2, a1b", "Room v2, a1b"),
        ("xx", "5 & 6%", "5 & 6%"),
        ("en", "AT&T, 1.2.3.4 and 12345678901234567", None),
    ],
)
def test_figures_become_words_of_their_language(language: str, text: str, said: str | None) -> None:
    if said is not None:
        assert worded(text, language) == said
    else:
        assert not any(letter.isdigit() for letter in worded(text, language))


@pytest.mark.hostile("R")
@pytest.mark.parametrize(
    "text", ["9" * 5000, "1," * 2500, "$" * 5000, "-" * 5000, "1:" * 2500, "a." * 2500, "&%" * 2500]
)
def test_no_text_is_too_strange_to_be_worded_and_cut(text: str) -> None:
    assert all(sentences(worded(text, "en"), "en", 400))


def test_a_text_is_cut_at_sentences_and_not_at_points() -> None:
    text = "Dr. Fox has 3.14 pies. He left at 5 p.m. Why?\n\nNobody knows, e.g. me."
    assert sentences(text, "en", 400) == [
        "Dr. Fox has 3.14 pies.",
        "He left at 5 p.m.",
        "Why?",
        "Nobody knows, e.g. me.",
    ]


def test_what_is_too_long_is_cut_at_commas_then_between_words_and_nothing_is_lost() -> None:
    text = "First a clause, then another; and then words without any comma at all " + "x" * 50
    pieces = sentences(text, "en", 30)
    assert pieces[:2] == ["First a clause, then another;", "and then words without any"]
    assert max(map(len, pieces)) <= 30
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
