# Gateway, coordinator, migrations, Flower and the worker that downloads models: no torch.
FROM python:3.12-slim-bookworm
WORKDIR /app
COPY pyproject.toml README.md ./
COPY shared shared
COPY services services
COPY workers workers
COPY migrations migrations
COPY client client
RUN pip install --no-cache-dir --editable ".[gateway,coordinator,flower,models]" \
    && useradd --create-home --uid 10001 atelier
USER 10001
CMD ["python", "-m", "services.gateway"]
