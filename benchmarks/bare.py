"""The yardstick: one FastAPI route that validates the same body and stores nothing."""

from fastapi import FastAPI

from workers.image.spec import GenerateInput

app = FastAPI()


@app.post("/generate", status_code=202)
async def generate(body: GenerateInput) -> dict[str, str]:
    return {"job_id": "none", "prompt": body.prompt}
