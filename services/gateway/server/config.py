"""GET /config: settings that are nobody's secret, and the devices of the live workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from services.gateway.server.stats import FAMILY
from services.gateway.state import GatewayState
from shared.family import Family


async def configuration(state: GatewayState, families: Mapping[str, Family]) -> dict[str, Any]:
    """What the reference API calls the batch size is the most requests that are computed together."""
    settings = state.settings
    devices = sorted({worker.device for worker in await state.fleet.workers() if FAMILY in worker.families})
    device = devices[0] if devices else None
    batch = max(operation.max_batch for operation in families[FAMILY].operations)
    return {
        "configuration": {"device": device, "devices": devices, "batch": batch},
        "inference_config": {
            "device_type": device.split(":")[0] if device else None,
            "batch_size": batch,
            "use_fp16": False if device == "cpu" else None,  # on a GPU weights keep the type they were saved in
            "enable_profiling": False,
        },
        "server_config": {"host": settings.host, "port": settings.port, "log_level": settings.log_level},
        # Every process logs to its standard output: where that goes is the operator's to know.
        "logging_config": {"log_level": settings.log_level, "log_directory": None, "log_files": []},
    }
