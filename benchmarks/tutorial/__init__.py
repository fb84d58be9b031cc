"""The usual tutorial: FastAPI, sync SQLAlchemy, Celery's `delay`."""
