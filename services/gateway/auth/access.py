"""Who may use which route. Each route says so when it is made; one that does not stops the gateway's start."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, cast

from fastapi import Depends, FastAPI, Query, Request
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import Mount

from services.gateway.auth.accounts import Accounts, invalid_token
from services.gateway.limits.counting import count_address, show_allowance
from services.gateway.responses import problems
from services.gateway.state import GatewayState
from shared.accounts.credentials import Principal
from shared.accounts.scopes import SCOPES
from shared.errors import Forbidden, Unauthorized
from shared.ids import parse_id

ANONYMOUS = Principal("anonymous", "anonymous", "free", ("user",), frozenset(SCOPES))
DOCUMENTATION = {"/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An access token, or a key."},
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


async def get_principal(request: Request) -> Principal:
    """Who asks; raises Unauthorized. While authentication is off everybody is the one anonymous owner.

    Keys are not read from the address: addresses are logged and shared.
    """
    state = cast(GatewayState, request.app.state.gateway)
    if state.accounts is None:
        return ANONYMOUS
    held: Principal | None = request.scope.get("principal")
    if held is None:
        credentials = _credentials(request)
        if not credentials:
            raise authentication_required()
        found = [await _authenticated(request, state.accounts, credential) for credential in credentials]
        if len({principal.owner for principal in found}) > 1:
            raise invalid_token()
        held = request.scope["principal"] = found[0]
    return held


async def get_submitter(request: Request) -> Principal | None:
    """The same for routes whose body may carry the credential in its `token` field: None while only it can tell."""
    if request.app.state.gateway.accounts is not None and not _credentials(request):
        return None
    return await get_principal(request)


async def submitter_of(request: Request, known: Principal | None, body: Any, access: AllowSubmit) -> Principal:
    """Who asks, by the headers or by the body's `token`, which is taken out: it is no part of the input.

    `access` is what the route asks of whom the headers did not tell.
    """
    state = cast(GatewayState, request.app.state.gateway)
    if state.accounts is None:
        return known or ANONYMOUS
    token = body.pop("token", None) if isinstance(body, dict) else None
    if token is None:
        if known is None:
            raise authentication_required()
        return known
    if not isinstance(token, str):
        raise invalid_token()
    found = await _authenticated(request, state.accounts, token)
    if known is None:
        access.check(found)
        return found
    if known.owner != found.owner:
        raise invalid_token()
    return known


async def _authenticated(request: Request, accounts: Accounts, credential: str) -> Principal:
    try:
        return await accounts.authenticate(credential)
    except Unauthorized:
        await count_address(request)  # guesses are counted
        raise


def authentication_required() -> Unauthorized:
    return Unauthorized("Authentication required", headers={"WWW-Authenticate": "Bearer"})


def _credentials(request: Request) -> list[str]:
    """What the headers carry; raises Unauthorized for what cannot be one."""
    bearers, keys = (request.headers.getlist(name) for name in ("authorization", "x-api-key"))
    if len(bearers) > 1 or len(keys) > 1:
        raise invalid_token()
    found = list(keys)
    if bearers:
        scheme, _, credential = bearers[0].partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise invalid_token()
        found.append(credential.strip())
    return found


class Public:
    """Anybody; their requests are counted by address, unless it is a probe's route."""

    def __init__(self, *, counted: bool = True) -> None:
        self._counted = counted

    async def __call__(self, request: Request) -> None:
        if self._counted:
            await count_address(request)


class Allow:
    """Whoever holds the scope (and the role); `signed_in` refuses keys."""

    def __init__(self, scope: str | None = None, *, signed_in: bool = False, role: str | None = None) -> None:
        assert scope is None or scope in SCOPES
        self.scope, self.signed_in, self.role = scope, signed_in, role

    async def __call__(self, request: Request, principal: Annotated[Principal, Depends(get_principal)]) -> None:
        self.check(principal)
        await show_allowance(request, principal)

    def check(self, principal: Principal) -> None:
        """Raise Forbidden with what is missing."""
        if self.role is not None and self.role not in principal.roles:
            raise Forbidden(f"Insufficient permissions. Required roles: ['{self.role}']")
        if self.scope is not None and self.scope not in principal.scopes:
            raise Forbidden(f"Insufficient permissions. Required scopes: ['{self.scope}']")
        if self.signed_in and principal.session_id is None:
            raise Forbidden("A key cannot do this; sign in with the password.")


class AllowSubmit(Allow):
    """The same where the body may carry the credential: whom the headers do not tell, the route asks the body."""

    async def __call__(  # type: ignore[override]
        self, request: Request, principal: Annotated[Principal | None, Depends(get_submitter)]
    ) -> None:
        if principal is not None:
            self.check(principal)


class AllowStream(Allow):
    """The same where a ticket in the address may stand for the credential, since an EventSource sends no headers."""

    async def __call__(  # type: ignore[override]
        self,
        request: Request,
        ticket: Annotated[str | None, Query(description="From `POST …/events/ticket`; it serves once.")] = None,
    ) -> None:
        if ticket is None:
            principal = await get_principal(request)
            self.check(principal)
            await show_allowance(request, principal)
        else:
            request.scope["follower"] = await _redeemed(request, ticket)


async def get_follower(request: Request) -> str:
    """Whose job a stream may tell: the ticket's owner, or who asks."""
    held: str | None = request.scope.get("follower")
    return held if held is not None else (await get_principal(request)).owner


async def _redeemed(request: Request, ticket: str) -> str:
    """The owner of a ticket for this path's job; raises Unauthorized, also while authentication is off.

    Any answer but 200 stops an EventSource, so that one which reconnects with a spent ticket does not ask for ever.
    """
    state = cast(GatewayState, request.app.state.gateway)
    asker = (await get_principal(request)).owner if state.accounts is not None and _credentials(request) else None
    job_id = parse_id(request.path_params["job_id"])
    owner = await state.stream_tickets.redeem(ticket, job_id) if job_id else None
    if owner is None:
        await count_address(request)  # guesses are counted
    if owner is None or asker not in (None, owner):
        raise invalid_token()
    return owner


PUBLIC, PROBE = Public(), Public(counted=False)
READ_JOBS, WRITE_JOBS = Allow("jobs:read"), Allow("jobs:write")
FOLLOW = AllowStream("jobs:read")
READ_OPS, READ_LOGS = Allow("ops:read"), Allow("logs:read")
MANAGE_WEBHOOKS = Allow("webhooks:manage")
MANAGE_MODELS = Allow("models:manage")
ANY_ACCOUNT, SIGNED_IN = Allow(), Allow(signed_in=True)
MANAGE_ACCOUNTS = Allow("accounts:manage", role="admin")


def allowed(access: Public | Allow) -> Sequence[Any]:
    """For a route's or router's `dependencies`."""
    return [Depends(access)]


def access_of(route: RouteContext) -> Public | Allow | None:
    """What the route said about its access; the documentation is public."""
    if isinstance(route.original_route, Mount) or route.path in DOCUMENTATION:
        return PUBLIC
    if isinstance(route.original_route, APIRoute):
        for dependency in route.dependencies:
            if isinstance(dependency.dependency, (Public, Allow)):
                return dependency.dependency
    return None


def document_access(app: FastAPI) -> None:
    """Say in the OpenAPI what each route asks for, and that it may be refused."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document["components"]["securitySchemes"] = SCHEMES
        for route in iter_route_contexts(app.routes):
            access, path = access_of(route), document["paths"].get(route.path_format, {})
            closed = isinstance(access, Allow)
            refusals = {str(status): told for status, told in problems(*([401, 403, 429] if closed else [429])).items()}
            for operation in (path[name.lower()] for name in route.methods or () if name.lower() in path):
                operation["responses"] = refusals | operation["responses"]
                if closed:
                    operation["security"] = [{name: []} for name in SCHEMES]
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def require_access(app: FastAPI) -> None:
    """Deny by default: a route without access is a mistake of ours, found at the start."""
    for route in iter_route_contexts(app.routes):
        if access_of(route) is None:
            raise RuntimeError(f"{route.path} does not say who may use it (services/gateway/auth/access.py)")
