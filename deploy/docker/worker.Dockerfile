# A worker with a GPU; the CUDA libraries come with PyTorch's own wheels.
FROM python:3.12-slim-bookworm
WORKDIR /app
RUN pip install --no-cache-dir "torch>=2.13,<3"
COPY pyproject.toml README.md ./
COPY shared shared
COPY services services
COPY workers workers
COPY migrations migrations
COPY client client
RUN pip install --no-cache-dir --editable ".[worker]" \
    && useradd --create-home --uid 10001 atelier
USER 10001
CMD ["python", "-m", "workers"]
