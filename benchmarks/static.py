"""Starlette's own way to serve a file."""

import os

from fastapi import FastAPI
from fastapi.responses import FileResponse

app = FastAPI()


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(os.environ["STATIC_FILE"])
