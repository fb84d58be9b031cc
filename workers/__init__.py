"""Workers: Celery hears doorbells, the runtime executes jobs, one folder a model family."""
