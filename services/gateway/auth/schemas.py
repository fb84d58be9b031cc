"""What the account routes take and answer (reference API 004)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from shared.family import Schema

Name = Annotated[str, StringConstraints(min_length=3, max_length=50, pattern="^[A-Za-z0-9_.-]+$")]
Email = Annotated[str, StringConstraints(max_length=254, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$")]
Password = Annotated[str, StringConstraints(min_length=8, max_length=128)]
GivenPassword = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class Registration(Schema):
    """A new account."""

    username: Name
    email: Email
    password: Password = Field(
        description="8 to 128 characters: lower case, upper case, a digit, one of !@#$%^&*()-_+=; "
        "without 123, abc, password, admin, user or test."
    )
    full_name: str = Field(min_length=1, max_length=100)


class Login(Schema):
    username: str = Field(min_length=1, max_length=50)
    password: GivenPassword


class Refresh(Schema):
    refresh_token: str = Field(min_length=1, max_length=4096)


class NewPassword(Schema):
    current_password: GivenPassword
    new_password: Password


class KeyRequest(Schema):
    name: str = Field(min_length=1, max_length=100)
    scopes: list[str] = Field(default=[], max_length=20, description="Empty: all that the account may do.")
    expires_in_days: int | None = Field(None, ge=1, le=365)
    requests_per_minute: int | None = Field(
        None, ge=1, le=1_000_000, description="At most as many as the account's; counted besides them."
    )
    requests_per_day: int | None = Field(None, ge=1, le=1_000_000_000, description="The same, in 24 hours.")


class Account(BaseModel):
    """A user, as the user and admins see it."""

    id: str
    username: str
    email: str
    full_name: str
    roles: list[str]
    tier: Literal["free", "pro", "enterprise"]
    is_active: bool
    is_verified: bool
    created_at: datetime
    last_login: datetime | None
    locked_until: datetime | None
    failed_attempts: int
    metadata: dict[str, Any]
    api_key_count: int


class Tokens(BaseModel):
    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"
    expires_in: int = Field(description="Seconds that the access token holds.")


class SignedIn(Tokens):
    """The tokens, in `token` and once more beside it."""

    success: Literal[True] = True
    message: str
    token: Tokens
    user: Account
    error: None = None


class Refreshed(Tokens):
    success: Literal[True] = True
    message: str


class Done(BaseModel):
    success: Literal[True] = True
    message: str


class Profile(Done):
    user: Account


class KeyInfo(BaseModel):
    """A key without its secret."""

    id: str
    prefix: str = Field(description="The eight characters after `sk_`.")
    name: str
    scopes: list[str]
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    requests_per_minute: int | None = Field(description="The key's own limit, besides the account's.")
    requests_per_day: int | None


class KeyCreated(Done):
    api_key: str = Field(description="Shown now and never again.")
    key_info: KeyInfo


class KeyList(Done):
    api_keys: list[KeyInfo]


class AccountPage(Done):
    users: list[Account]
    next: str | None = Field(description="The `before` of the next page; null on the last one.")
