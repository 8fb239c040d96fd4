"""Batch active learning in plain PyTorch: which 40 digits should be labelled next?

A small network learns from 40 labelled images of scikit-learn's digits. BAIT, FisherMask and chance
each pick 40 more, the network learns from all 80, and is tested on images it has never seen.
Run it with `python examples/select_batch.py`; it takes about ten seconds.
"""

from __future__ import annotations

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fm_al.fisher import select_bait, select_fishermask

LABELLED, BATCH, SEEDS = 40, 40, 3


def train(images: Tensor, targets: Tensor, seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(2)),
        *(nn.Flatten(), nn.Linear(256, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.003)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, targets: Tensor) -> float:
    return float((network(images).argmax(dim=1) == targets).double().mean())


def main() -> None:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target)
    found: dict[str, list[float]] = {"before": [], "random": [], "BAIT": [], "FisherMask": []}
    for seed in range(SEEDS):
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        pool, test = order[:1200], order[1200:]  # `labelled` and picks are positions in the pool
        labelled = torch.arange(LABELLED)
        network = train(images[pool[labelled]], targets[pool[labelled]], seed)
        found["before"].append(accuracy(network, images[test], targets[test]))
        with torch.no_grad():
            embeddings = network[:-1](images[pool])
            logits = network[-1](embeddings)
        picks = {
            "random": torch.arange(LABELLED, LABELLED + BATCH),
            "BAIT": select_bait(embeddings, logits, labelled, BATCH),
            "FisherMask": select_fishermask(network, images[pool], labelled, BATCH),
        }
        for name, batch in picks.items():
            chosen = pool[torch.cat([labelled, batch])]
            network = train(images[chosen], targets[chosen], seed)
            found[name].append(accuracy(network, images[test], targets[test]))
    for name, accuracies in found.items():
        print(f"{name:10}  {sum(accuracies) / SEEDS:.1%}")


if __name__ == "__main__":
    main()
