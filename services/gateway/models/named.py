"""How a route names a model: in its path, with the family and kind beside it where the name alone is not enough."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Path, Query

Name = Annotated[str, Path(min_length=1, max_length=200, description="The model's name, as GET /models has it.")]
InFamily = Annotated[
    str | None, Query(max_length=100, description="Its family; needed only where several have a model of that name.")
]
OfKind = Annotated[
    Literal["model", "adapter"] | None, Query(description="Left out, a model or, if there is none, an adapter.")
]
