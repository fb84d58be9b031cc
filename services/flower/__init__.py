"""The operators' view of Celery: Flower, behind a password."""
