"""Which 40 images to label next? BAIT and FisherMask in a plain PyTorch loop.

A small network learns from 40 digits. BAIT, FisherMask and chance each pick 40 more, and the
network learns from all 80. Run it with `python examples/select_batch.py`.
"""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from fm_al.fisher import select_bait, select_fishermask


def train(images: Tensor, targets: Tensor) -> nn.Sequential:
    torch.manual_seed(0)  # layers draw their weights from the global generator alone
    network = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AvgPool2d(4)),
        *(nn.Flatten(), nn.Linear(64, 10)),
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, images: Tensor, targets: Tensor) -> float:
    return float((network(images).argmax(dim=1) == targets).double().mean())


digits = load_digits()
all_images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
all_targets = torch.tensor(digits.target)
totals: dict[str, float] = {}
for seed in range(2):
    order = torch.randperm(len(all_images), generator=torch.Generator().manual_seed(seed))
    images, test_images = all_images[order].split([1000, 797])
    targets, test_targets = all_targets[order].split([1000, 797])
    labelled = torch.arange(40)  # indices into `images`, as all picks are
    network = train(images[labelled], targets[labelled])
    with torch.no_grad():
        embeddings = network[:-1](images)
        logits = network[-1](embeddings)
    picks = {
        "40 labels": labelled[:0],
        "random": torch.arange(40, 80),
        "BAIT": select_bait(embeddings, logits, labelled, n=40),
        "FisherMask": select_fishermask(network, images, labelled, n=40),
    }
    for name, batch in picks.items():
        chosen = torch.cat([labelled, batch])
        network = train(images[chosen], targets[chosen])
        correct = accuracy(network, test_images, test_targets)
        totals[name] = totals.get(name, 0) + correct / 2
for name, mean in totals.items():
    print(f"{name:10}  {mean:.1%}")
