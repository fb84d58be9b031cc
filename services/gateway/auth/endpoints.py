"""Accounts over HTTP (reference API 004), where authentication is on."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.gateway.auth.access import ANY_ACCOUNT, MANAGE_ACCOUNTS, PUBLIC, SIGNED_IN, allowed
from services.gateway.auth.accounts import Accounts, TokenPair, invalid_token
from services.gateway.auth.schemas import (
    AccountPage,
    Done,
    KeyCreated,
    KeyInfo,
    KeyList,
    KeyRequest,
    Login,
    NewPassword,
    Profile,
    Refresh,
    Refreshed,
    Registration,
    SignedIn,
)
from services.gateway.dependencies import Before, Caller, State
from services.gateway.limits.counting import address_of
from services.gateway.responses import json_answer, problems
from services.gateway.typed_bodies import read_typed, takes
from shared.accounts.credentials import KeyView, Principal
from shared.accounts.users import UserView
from shared.errors import NotFound, Unavailable
from shared.ids import parse_id


async def get_accounts(state: State) -> Accounts:
    """The accounts' services; Unavailable while authentication is off."""
    if state.accounts is None:
        raise Unavailable("Authentication is off here: there are no accounts (ENABLE_AUTH).", code="auth_disabled")
    return state.accounts


AccountsOf = Annotated[Accounts, Depends(get_accounts)]
router = APIRouter(prefix="/auth", tags=["auth"], dependencies=[Depends(get_accounts)])


@router.post(
    "/register",
    status_code=201,
    response_model=SignedIn,
    responses=problems(400, 403, 409, 413, 415, 429),
    dependencies=allowed(PUBLIC),
    openapi_extra=takes(Registration),
)
async def register(request: Request, state: State, accounts: AccountsOf) -> Response:
    """Make an account and sign in."""
    asked = await read_typed(request, state.settings.max_json_bytes, Registration)
    user, pair = await accounts.register(asked, address_of(request))
    return json_answer(_signed_in("Registered.", user, pair), 201)


@router.post(
    "/login",
    response_model=SignedIn,
    responses=problems(400, 401, 413, 415, 429),
    dependencies=allowed(PUBLIC),
    openapi_extra=takes(Login),
)
async def login(request: Request, state: State, accounts: AccountsOf) -> Response:
    """Sign in. Failures slow the next tries down; nobody is locked out for longer than a minute."""
    asked = await read_typed(request, state.settings.max_json_bytes, Login)
    user, pair = await accounts.login(asked, address_of(request))
    return json_answer(_signed_in("Signed in.", user, pair))


@router.post(
    "/refresh",
    response_model=Refreshed,
    responses=problems(400, 401, 413, 415),
    dependencies=allowed(PUBLIC),
    openapi_extra=takes(Refresh),
)
async def refresh(request: Request, state: State, accounts: AccountsOf) -> Response:
    """The next pair of tokens. A refresh token serves once: if it comes again, its session ends."""
    asked = await read_typed(request, state.settings.max_json_bytes, Refresh)
    pair = await accounts.refresh(asked.refresh_token)
    return json_answer({"success": True, "message": "Refreshed.", **_tokens(pair)})


@router.post("/logout", response_model=Done, responses=problems(401, 403), dependencies=allowed(SIGNED_IN))
async def logout(accounts: AccountsOf, caller: Caller) -> Response:
    """End every session of yours: all access and refresh tokens are void at once, at every gateway."""
    assert caller.user_id is not None
    await accounts.credentials.close_sessions(caller.user_id)
    return json_answer({"success": True, "message": "Signed out everywhere."})


@router.get("/profile", response_model=Profile, responses=problems(401), dependencies=allowed(ANY_ACCOUNT))
async def profile(accounts: AccountsOf, caller: Caller) -> Response:
    """Your account."""
    user = await _user(accounts, caller)
    return json_answer({"success": True, "message": "Your account.", "user": _account(user)})


@router.put(
    "/password",
    response_model=Done,
    responses=problems(400, 401, 403, 413, 415, 429),
    dependencies=allowed(SIGNED_IN),
    openapi_extra=takes(NewPassword),
)
async def change_password(request: Request, state: State, accounts: AccountsOf, caller: Caller) -> Response:
    """Change your password; every token of yours is void at once. Keys stay: delete those that should not."""
    asked = await read_typed(request, state.settings.max_json_bytes, NewPassword)
    await accounts.change_password(await _user(accounts, caller), asked, address_of(request))
    return json_answer({"success": True, "message": "The password is changed; sign in again."})


@router.post(
    "/generate-key",
    status_code=201,
    response_model=KeyCreated,
    responses=problems(400, 401, 403, 409, 413, 415),
    dependencies=allowed(SIGNED_IN),
    openapi_extra=takes(KeyRequest),
)
async def generate_key(request: Request, state: State, accounts: AccountsOf, caller: Caller) -> Response:
    """Make a key for programs. It is shown now and never again."""
    asked = await read_typed(request, state.settings.max_json_bytes, KeyRequest)
    key, view = await accounts.make_key(await _user(accounts, caller), asked)
    told = {"success": True, "message": "Keep it safe: it is not shown again."}
    return json_answer({**told, "api_key": key.text, "key_info": _key(view)}, 201)


@router.get("/api-keys", response_model=KeyList, responses=problems(401, 403), dependencies=allowed(SIGNED_IN))
async def list_keys(accounts: AccountsOf, caller: Caller) -> Response:
    """Your keys, newest first, without their secrets."""
    assert caller.user_id is not None
    keys = [_key(view) for view in await accounts.credentials.keys(caller.user_id)]
    return json_answer({"success": True, "message": f"{len(keys)} keys.", "api_keys": keys})


@router.delete(
    "/api-keys/{key_id}", response_model=Done, responses=problems(401, 403, 404), dependencies=allowed(SIGNED_IN)
)
async def delete_key(
    key_id: Annotated[str, Path(description="The `id` of the key's info.")], accounts: AccountsOf, caller: Caller
) -> Response:
    """Revoke a key, from its next request on."""
    parsed = parse_id(key_id)
    assert caller.user_id is not None
    if parsed is None or not await accounts.credentials.remove_key(caller.user_id, parsed):
        raise NotFound("There is no key with this id.")
    return json_answer({"success": True, "message": "The key is revoked."})


@router.get(
    "/users", response_model=AccountPage, responses=problems(400, 401, 403), dependencies=allowed(MANAGE_ACCOUNTS)
)
async def list_users(
    accounts: AccountsOf,
    before: Before,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
) -> Response:
    """All accounts, newest first (admins)."""
    users = await accounts.users.page(before, limit + 1)
    page, more = users[:limit], len(users) > limit
    following = str(page[-1].id) if more else None
    told = {"success": True, "message": f"{len(page)} accounts."}
    return json_answer({**told, "users": [_account(user) for user in page], "next": following})


@router.delete(
    "/users/{name}",
    response_model=Done,
    responses=problems(401, 403, 404, 409),
    dependencies=allowed(MANAGE_ACCOUNTS),
)
async def delete_user(
    name: Annotated[str, Path(max_length=50, description="The username.")], accounts: AccountsOf
) -> Response:
    """Delete an account with its keys, sessions and jobs (admins); its running jobs are stopped."""
    if await accounts.users.remove(name) is None:
        raise NotFound("There is no account with this name.")
    return json_answer({"success": True, "message": "The account is deleted."})


async def _user(accounts: Accounts, caller: Principal) -> UserView:
    assert caller.user_id is not None
    user = await accounts.users.get(caller.user_id)
    if user is None:  # deleted a moment ago
        raise invalid_token()
    return user


def _signed_in(message: str, user: UserView, pair: TokenPair) -> dict[str, Any]:
    tokens = _tokens(pair)
    account = _account(user)
    return {"success": True, "message": message, "token": tokens, **tokens, "user": account, "error": None}


def _tokens(pair: TokenPair) -> dict[str, Any]:
    return {
        "access_token": pair.access,
        "refresh_token": pair.refresh,
        "token_type": "bearer",
        "expires_in": pair.seconds,
    }


def _account(user: UserView) -> dict[str, Any]:
    return asdict(user)


def _key(view: KeyView) -> dict[str, Any]:
    return KeyInfo(**asdict(view) | {"id": str(view.id)}).model_dump(mode="json")
