"""Fit the model behind the lab `utr`: mean ribosome load of 5' untranslated regions of 50 letters, from 280,000 measured ones.

    python examples/benchmarks/utr_lab.py --data utr_280k.npz --out labloop/studies/labs/data/utr_model.npz

The data: a NumPy archive of `x_packed` (2 bits a base, low bits first), `length` and `y` (Sample et al., Nature Biotechnology
2019, GSE114002). 20,000 sequences are held out; what the model says of them is printed and stands in the README beside the
file. Two convolutions and two dense layers, so that NumPy alone can predict; weights are kept as float16. Two CPU minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from labloop.seeds import generator

LENGTH, TOP = 50, 12.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="the NumPy archive described above")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()

    codes, y = read(args.data)
    order = generator(0, "utr lab").permutation(len(codes))
    held, seen = order[:20_000], order[20_000:]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = fit(codes[seen], y[seen], epochs=args.epochs, device=device)
    for layer in model:
        for weights in layer.parameters():
            weights.data = weights.data.half().float()  # as they are kept
    said = predict(model, codes, device)
    r2 = 1 - ((said - y)[held] ** 2).mean() / y[held].var()
    print(f"held out: R² {r2:.3f}, Spearman {spearmanr(said[held], y[held]).statistic:.3f}; all predictions lie in "
          f"{said.min():.3f} to {said.max():.3f}")  # fmt: skip
    save(args.out, model, said)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unpack the letter codes (n, 50), ACGT as 0 to 3, and y (n,)."""
    with np.load(path, allow_pickle=False) as archive:
        packed, y = archive["x_packed"], archive["y"]
    codes = packed[:, :, None] >> np.array([0, 2, 4, 6], dtype=np.uint8) & 3
    return codes.reshape(len(packed), -1)[:, :LENGTH], y.reshape(-1).astype(np.float32)


def fit(codes: np.ndarray, y: np.ndarray, *, epochs: int, device: str) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv1d(4, 48, 9, padding=4), nn.ReLU(), nn.Conv1d(48, 24, 7, padding=3), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1),
        nn.Linear(24 * LENGTH, 40), nn.ReLU(), nn.Linear(40, 1),
    ).to(device)  # fmt: skip
    inputs, targets = torch.as_tensor(codes, device=device), torch.as_tensor(y, device=device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-3)
    size, steps = 512, len(y) // 512
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=4e-3, total_steps=epochs * steps)
    model.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(y), device=device)[: steps * size].split(size):
            loss = nn.functional.mse_loss(TOP * torch.sigmoid(model(onehot(inputs[rows])))[:, 0], targets[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return model.eval()


def onehot(codes: torch.Tensor) -> torch.Tensor:
    return nn.functional.one_hot(codes.long(), 4).float().transpose(1, 2)


@torch.no_grad()
def predict(model: nn.Sequential, codes: np.ndarray, device: str) -> np.ndarray:
    parts = [TOP * torch.sigmoid(model(onehot(torch.as_tensor(part, device=device))))[:, 0].cpu().numpy()
             for part in np.array_split(codes, 50)]  # fmt: skip
    return np.concatenate(parts)


def save(path: Path, model: nn.Sequential, said: np.ndarray) -> None:
    """Write the weights in the order in which `labloop.studies.labs.utr` multiplies them: places before channels."""
    first, second, dense, head = (layer for layer in model if hasattr(layer, "weight"))
    arrays = {
        "filters_1": first.weight.permute(2, 1, 0), "bias_1": first.bias,
        "filters_2": second.weight.permute(2, 1, 0), "bias_2": second.bias,
        "dense": dense.weight.reshape(40, 24, LENGTH).permute(2, 1, 0).reshape(LENGTH * 24, 40), "bias_3": dense.bias,
        "head": head.weight[0], "bias_4": head.bias[0],
    }  # fmt: skip
    kept = {name: tensor.detach().cpu().numpy().astype(np.float16) for name, tensor in arrays.items()}
    np.savez_compressed(path, **kept, bounds=np.array([said.min(), said.max()], dtype=np.float32))


if __name__ == "__main__":
    main()
