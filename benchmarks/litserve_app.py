"""`python -m benchmarks.litserve_app PORT MODEL MAX_BATCH`: LitServe around the very code that computes in a worker.

LitServe reads the annotations at run time, so their evaluation is not postponed here.
"""

import os
import sys
from typing import Any

for name in ("DATABASE_URL", "REDIS_URL", "STORAGE_URL"):
    os.environ.setdefault(name, "none://")

import litserve  # noqa: E402
import torch  # noqa: E402

from workers.predict.catalog import find_models  # noqa: E402
from workers.predict.parameters import Parameters  # noqa: E402
from workers.predict.tasks import load_task  # noqa: E402

PARAMETERS = Parameters()


class Predict(litserve.LitAPI):
    """The same model, the same preparation, the same batches; nothing is kept."""

    def __init__(self, model: str, max_batch: int) -> None:
        super().__init__(max_batch_size=max_batch, batch_timeout=0.005 if max_batch > 1 else 0.0)
        self._model, self._max_batch = model, max_batch

    def setup(self, device: str) -> None:
        self._task = load_task(find_models()[self._model], device)

    def decode_request(self, request: dict[str, Any]) -> Any:
        return self._task.prepare(request["inputs"], PARAMETERS, "inputs").value

    def batch(self, inputs: list[Any]) -> list[Any]:
        return inputs

    def predict(self, values: Any) -> Any:
        with torch.inference_mode():
            found = self._task.compute(values if self._max_batch > 1 else [values], PARAMETERS, lambda _: None)
        return found if self._max_batch > 1 else found[0]

    def unbatch(self, output: list[Any]) -> list[Any]:
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        return {"success": True, "result": output}


if __name__ == "__main__":
    port, model, max_batch = sys.argv[1:]
    server = litserve.LitServer(Predict(model, int(max_batch)), accelerator="cpu", workers_per_device=1)
    server.run(port=int(port), host="127.0.0.1", generate_client_file=False, log_level="warning", num_api_servers=1)
