"""Kept as small as tutorials keep it: a row, a message, an answer."""

import os
import uuid

from celery import Celery
from fastapi import FastAPI
from sqlalchemy import JSON, create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from workers.image.spec import GenerateInput

engine = create_engine(os.environ["DATABASE_URL"].replace("://", "+psycopg2://", 1), pool_size=20, max_overflow=0)
celery = Celery("tutorial", broker=os.environ["REDIS_URL"])
app = FastAPI()


class Base(DeclarativeBase):
    pass


class TutorialJob(Base):
    __tablename__ = "tutorial_jobs"
    id: Mapped[str] = mapped_column(primary_key=True)
    status: Mapped[str]
    input: Mapped[dict] = mapped_column(JSON)


Base.metadata.create_all(engine)


@celery.task
def generate_task(job_id: str) -> None:
    with Session(engine) as session:
        session.get(TutorialJob, job_id).status = "done"
        session.commit()


@app.post("/generate", status_code=202)
def generate(body: GenerateInput) -> dict[str, str]:
    job_id = str(uuid.uuid4())
    with Session(engine) as session:
        session.add(TutorialJob(id=job_id, status="queued", input=body.model_dump()))
        session.commit()
    generate_task.delay(job_id)
    return {"job_id": job_id}
