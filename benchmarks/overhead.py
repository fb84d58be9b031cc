"""What the platform adds to a real picture: a bare `pipeline()` call against a job that waits for the same one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from statistics import median
from typing import Any

from benchmarks.servers import ROOT, platform

PICTURES = 5
SIDE, STEPS = 1024, 50  # seconds a picture, as real ones take
BODY = {
    "prompt": "a large red circle on a blue background",
    "seed": 1,
    "num_inference_steps": STEPS,
    "width": SIDE,
    "height": SIDE,
}

BARE = """
import json, os, sys, time
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained(sys.argv[1], dtype=torch.float32, local_files_only=True)
pipe.set_progress_bar_config(disable=True)
times = []
pictures, side, steps = (int(argument) for argument in sys.argv[2:])
for n in range(pictures + 2):
    began = time.perf_counter()
    pipe("a large red circle on a blue background", num_inference_steps=steps, guidance_scale=7.5, guidance_rescale=0.7,
         height=side, width=side, generator=torch.Generator().manual_seed(1))
    times.append(time.perf_counter() - began)
print(json.dumps(times[2:]))
"""


def bench_overhead(_: float) -> dict[str, Any]:
    """Medians of PICTURES pictures each, bare before and after, because machines drift."""
    before = _bare()
    with platform() as (client, _pid):
        jobs, runs = [], []
        for _n in range(PICTURES + 2):
            began = time.perf_counter()
            answer = client.post("/generate?wait=100", json=BODY)
            answer.raise_for_status()
            jobs.append(time.perf_counter() - began)
            runs.append(answer.json()["generation_time"])
    after = _bare()
    bare, job, run = median(before + after), median(jobs[2:]), median(runs[2:])
    print(f"bare pipeline() {bare:.3f} s; in a job {run:.3f} s; POST to reply {job:.3f} s", flush=True)
    print(
        f"overhead of POST to reply over bare: {100 * (job / bare - 1):+.1f} % ({1000 * (job - bare):+.0f} ms)",
        flush=True,
    )
    return {"bare": bare, "run": run, "job": job, "bare_before": median(before), "bare_after": median(after)}


def _bare() -> list[float]:
    folder = str(ROOT / "workers" / "image" / "house" / "weights" / "shapes")
    command = [sys.executable, "-W", "ignore", "-c", BARE, folder, str(PICTURES), str(SIDE), str(STEPS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    times: list[float] = json.loads(done.stdout.strip().splitlines()[-1])
    return times
