"""`python -m workers.predict.house.train`: fits the example model to `truth` from nothing, in a minute on one core.

Everything is drawn from fixed seeds, so that it makes the same weights again up to rounding.
"""

from __future__ import annotations

import json

import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from workers.predict.house.network import INPUTS, SPAN, WEIGHTS, network, truth
from workers.predict.house.score import held_out_error

STEPS, BATCH = 12_000, 512


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net, draw = network(), torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(net.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=STEPS)
    for _ in range(STEPS):
        rows = (2 * torch.rand(BATCH, INPUTS, generator=draw) - 1) * SPAN
        # Requests may give fewer numbers; the missing ones are zeros, and belong to what is learnt.
        given = torch.randint(1, INPUTS + 1, (BATCH, 1), generator=draw)
        rows = rows * (torch.arange(INPUTS) < given)
        loss = F.mse_loss(net(rows)[:, 0], truth(rows))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    WEIGHTS.mkdir(parents=True, exist_ok=True)
    save_file(net.state_dict(), WEIGHTS / "model.safetensors")
    config = {"model_type": "atelier-example", "layers": [INPUTS, 64, 32, 1], "span": SPAN}
    (WEIGHTS / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    print(held_out_error())


if __name__ == "__main__":
    main()
