"""Which requests are counted, for whom: submissions for their owner, what anybody may ask for its address."""

from __future__ import annotations

from typing import cast

from fastapi import Request

from services.gateway.limits.tiers import allowance_of_address, allowances_of
from services.gateway.state import GatewayState
from shared.accounts.attempts import network_of
from shared.accounts.credentials import Principal


def address_of(request: Request) -> str:
    """Whom the caller's address stands for."""
    return network_of(request.client.host if request.client else "unknown")


async def count_submission(request: Request, principal: Principal) -> None:
    """Raise RateLimited if the owner's tier, or its key, allows no more now; what passes is the owner's usage."""
    state = _state(request)
    if state.limiter is not None:
        allowances = allowances_of(principal, address_of(request), state.settings)
        request.scope["answer_headers"].update(await state.limiter.spend(*allowances))
    state.request_tally.count(principal.owner)


async def count_address(request: Request) -> None:
    """Raise RateLimited if too many requests came from there."""
    state = _state(request)
    if state.limiter is not None:
        request.scope["answer_headers"].update(await state.limiter.spend(allowance_of_address(address_of(request))))


async def show_allowance(request: Request, principal: Principal) -> None:
    """Let the answer tell what is left; following a job costs nothing of it."""
    state = _state(request)
    if state.limiter is not None:
        allowances = allowances_of(principal, address_of(request), state.settings)
        request.scope["answer_headers"].update(await state.limiter.show(*allowances))


def _state(request: Request) -> GatewayState:
    return cast(GatewayState, request.app.state.gateway)
