"""The words of a style_config: what a client may say, and which option of a model's attributes it means. No torch."""

from __future__ import annotations

HAIR_COLORS = {
    "black": "black",
    "brown": "brown",
    "brunette": "brown",
    "blonde": "blonde",
    "blond": "blonde",
    "golden": "blonde",
    "red": "red",
    "auburn": "red",
    "ginger": "red",
    "grey": "grey",
    "gray": "grey",
    "silver": "grey",
    "white": "white",
    "blue": "blue",
    "green": "green",
    "pink": "pink",
    "purple": "purple",
    "violet": "purple",
}
# An ethnicity is taken as a complexion and nothing else: no feature of a face is guessed from it.
ETHNICITIES = {
    "fair": "fair",
    "pale": "fair",
    "light": "light",
    "white": "light",
    "caucasian": "light",
    "european": "light",
    "east asian": "light",
    "asian": "light",
    "medium": "medium",
    "mixed": "medium",
    "olive": "medium",
    "hispanic": "medium",
    "latino": "medium",
    "latina": "medium",
    "mediterranean": "medium",
    "middle eastern": "medium",
    "brown": "brown",
    "south asian": "brown",
    "indian": "brown",
    "black": "dark",
    "african": "dark",
    "dark": "dark",
}


def option_of(words: dict[str, str], text: str) -> str:
    """The option that a client's word means; ValueError lists the words that are known."""
    option = words.get(" ".join(text.lower().replace("_", " ").replace("-", " ").split()))
    if option is None:
        raise ValueError(f"Unknown. Known are: {', '.join(words)}.")
    return option
