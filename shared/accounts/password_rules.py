"""What a password must be: the reference API's rules, and lengths that argon2id takes."""

from __future__ import annotations

from shared.errors import ValidationFailed

SHORTEST, LONGEST = 8, 128
SPECIAL = "!@#$%^&*()-_+="
COMMON = ("123", "abc", "password", "admin", "user", "test")


def check_password(password: str, field: str = "password") -> None:
    """Raise ValidationFailed that names what the password lacks."""
    if problem := password_problem(password):
        raise ValidationFailed(f"Invalid {field}: {problem}", field=field)


def password_problem(password: str) -> str | None:
    """What is wrong with it, as the end of a sentence, or None."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"it must have {SHORTEST} to {LONGEST} characters."
    wanted = {
        "a lower-case letter": any(letter.islower() for letter in password),
        "an upper-case letter": any(letter.isupper() for letter in password),
        "a digit": any(letter.isdigit() for letter in password),
        f"one of {SPECIAL}": any(letter in SPECIAL for letter in password),
    }
    if missing := [what for what, there in wanted.items() if not there]:
        return f"it needs {', '.join(missing)}."
    if found := next((word for word in COMMON if word in password.lower()), None):
        return f"it must not contain {found!r}."
    return None
