"""What the platform does with accounts: register, sign in and out, refresh, change a password, make a key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.gateway.auth.schemas import KeyRequest, Login, NewPassword, Registration
from services.gateway.limits.tiers import account_policies
from shared.accounts.api_keys import NewKey
from shared.accounts.attempts import Attempts, Window
from shared.accounts.credentials import Credentials, KeyRules, KeyView, Principal
from shared.accounts.password_rules import check_password
from shared.accounts.passwords import Passwords
from shared.accounts.scopes import SCOPES, scopes_of
from shared.accounts.tokens import Claims, InvalidToken, TokenSigner
from shared.accounts.users import NewUser, Users, UserView
from shared.errors import Conflict, Forbidden, Unauthorized, ValidationFailed
from shared.logging import get_logger
from shared.settings import Settings

log = get_logger(__name__)
REGISTRATIONS = Window("register", 100, 3600)
REGISTRATIONS_OF_ADDRESS = Window("register_address", 10, 3600)


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Both tokens, and for how many seconds the access token holds."""

    access: str
    refresh: str
    seconds: int


class Accounts:
    """The services behind `/auth`, over the tables."""

    def __init__(
        self,
        settings: Settings,
        users: Users,
        credentials: Credentials,
        attempts: Attempts,
        passwords: Passwords,
        signer: TokenSigner,
    ) -> None:
        self._settings, self.users, self.credentials = settings, users, credentials
        self._attempts, self._passwords, self._signer = attempts, passwords, signer

    async def register(self, asked: Registration, address: str) -> tuple[UserView, TokenPair]:
        """A new account, signed in."""
        if self._settings.registration == "closed":
            raise Forbidden("Registration is closed; ask an admin for an account.")
        check_password(asked.password)
        await self._attempts.within(REGISTRATIONS_OF_ADDRESS, address)
        await self._attempts.within(REGISTRATIONS, "all")
        password_hash = await self._passwords.hash(asked.password)
        user_id = await self.users.add(NewUser(asked.username, asked.email, asked.full_name, password_hash))
        log.info("account registered", user=str(user_id))
        return await self._signed_in(user_id, password_hash)

    async def login(self, asked: Login, address: str) -> tuple[UserView, TokenPair]:
        """A new session; the same answer in the same time for an unknown name and a wrong password."""
        await self._attempts.password(asked.username, address)
        user_id, password_hash = await self.users.sign_in_as(asked.username) or (None, None)
        right = await self._passwords.matches(password_hash, asked.password)
        if not right or user_id is None or password_hash is None:
            raise wrong_password()
        await self._attempts.succeeded(asked.username, address)
        signed_in = await self._signed_in(user_id, password_hash)
        if self._passwords.outdated(password_hash):
            await self.users.rehash(user_id, password_hash, await self._passwords.hash(asked.password))
        return signed_in

    async def refresh(self, token: str) -> TokenPair:
        """The next pair. A refresh token serves once; one that comes twice ends its session."""
        try:
            claims = self._signer.read(token, "refresh")
        except InvalidToken:
            raise invalid_token() from None
        rotated = await self.credentials.rotate(claims)
        if rotated is None:
            raise invalid_token()
        return self._pair(*rotated)

    async def authenticate(self, credential: str) -> Principal:
        """Whose key or access token this is; raises Unauthorized."""
        if credential.startswith("sk_"):
            found = await self.credentials.of_key(credential)
        else:
            try:
                found = await self.credentials.of_session(self._signer.read(credential, "access"))
            except InvalidToken:
                found = None
        if found is None:
            raise invalid_token()
        return found

    async def change_password(self, user: UserView, asked: NewPassword, address: str) -> None:
        """Void every token of the user; the attempts at the current password count as those of a login."""
        check_password(asked.new_password, "new_password")
        await self._attempts.password(user.username, address)
        if not await self._passwords.matches(await self.users.password_hash(user.id), asked.current_password):
            raise ValidationFailed("Invalid current_password: it is not the password.", field="current_password")
        await self._attempts.succeeded(user.username, address)
        await self.users.set_password(user.id, await self._passwords.hash(asked.new_password))

    async def make_key(self, user: UserView, asked: KeyRequest) -> tuple[NewKey, KeyView]:
        """A key that may do what was asked for, and never more than its owner."""
        _check_scopes(asked.scopes, user.roles)
        self._check_requests(asked, user.tier)
        limits = asked.requests_per_minute, asked.requests_per_day
        rules = KeyRules(asked.name, sorted(set(asked.scopes)), asked.expires_in_days, *limits)
        return await self.credentials.add_key(user.id, rules)

    async def ensure_admin(self) -> None:
        """The first admin, if the environment names one and there is none yet."""
        password = self._settings.admin_password
        if not password or await self.users.has_admin():
            return
        name, text = self._settings.admin_username, password.get_secret_value()
        try:
            await create_admin(self.users, self._passwords, name, self._settings.admin_email, text)
        except Conflict:
            if not await self.users.has_admin():  # else another gateway process was quicker
                raise
        else:
            log.info("the first admin was made", username=name)

    def close(self) -> None:
        self._passwords.close()

    def _check_requests(self, asked: KeyRequest, tier: str) -> None:
        """Raise ValidationFailed that names a limit which would not hold."""
        account = {policy.name: policy.quota for policy in account_policies(tier, self._settings)}
        for window in ("minute", "day"):
            field = f"requests_per_{window}"
            wanted, most = getattr(asked, field), account.get(window)
            if wanted is None:
                continue
            if not self._settings.limits_requests:
                raise ValidationFailed("Requests are not limited here (ATELIER_RATE_LIMITS).", field=field)
            if most is not None and wanted > most:
                details = {"provided": wanted, "valid_range": [1, most]}
                raise ValidationFailed(f"Invalid {field}: your account has {most}.", field=field, details=details)

    async def _signed_in(self, user_id: UUID, password_hash: str) -> tuple[UserView, TokenPair]:
        """A session for whoever proved this password; it may have changed, or its account gone, a moment ago."""
        claims = await self.credentials.open_session(user_id, password_hash, self._settings.refresh_token_seconds)
        user = await self.users.get(user_id) if claims else None
        if claims is None or user is None:
            raise wrong_password()
        return user, self._pair(claims, self._settings.refresh_token_seconds)

    def _pair(self, claims: Claims, session_seconds: float) -> TokenPair:
        seconds = int(min(self._settings.access_token_seconds, session_seconds))
        access = self._signer.issue("access", claims, seconds)
        return TokenPair(access, self._signer.issue("refresh", claims, session_seconds), seconds)


async def create_admin(users: Users, passwords: Passwords, name: str, email: str, password: str) -> None:
    """An admin's account; raises what a bad name, address or password raises."""
    asked = Registration(username=name, email=email, password=password, full_name=name)
    check_password(asked.password)
    password_hash = await passwords.hash(asked.password)
    await users.add(NewUser(name, email, name, password_hash, ("admin", "user"), is_verified=True, tier="enterprise"))


def wrong_password() -> Unauthorized:
    """Whether it is the name or the password that is wrong is told to nobody."""
    return Unauthorized("Invalid username or password.", headers={"WWW-Authenticate": "Bearer"})


def invalid_token() -> Unauthorized:
    """Why a token is refused is told to nobody."""
    return Unauthorized("Invalid authentication token", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


def _check_scopes(wanted: Sequence[str], roles: Sequence[str]) -> None:
    if unknown := sorted(set(wanted) - set(SCOPES)):
        known = ", ".join(SCOPES)
        raise ValidationFailed(f"Invalid scopes: {', '.join(unknown)[:200]}; there are {known}.", field="scopes")
    if beyond := sorted(set(wanted) - scopes_of(roles)):
        raise Forbidden(f"Your account has no {', '.join(beyond)} to give.", details={"field": "scopes"})
