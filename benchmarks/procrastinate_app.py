"""The durable queue to beat: FastAPI and Procrastinate, a Postgres queue with an async connector."""

import os
from contextlib import asynccontextmanager

from fastapi import FastAPI
from procrastinate import App, PsycopgConnector

from workers.image.spec import GenerateInput

queue = App(connector=PsycopgConnector(conninfo=os.environ["DATABASE_URL"], max_size=20))


@queue.task(name="generate")
async def generate_task(**_: object) -> None:
    pass


@asynccontextmanager
async def lifespan(_: FastAPI):
    async with queue.open_async():
        if not await queue.check_connection_async():
            await queue.schema_manager.apply_schema_async()
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/generate", status_code=202)
async def generate(body: GenerateInput) -> dict[str, int]:
    return {"job_id": await generate_task.defer_async(**body.model_dump())}
