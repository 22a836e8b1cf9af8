"""The metrics on image classification, with ten small networks and the handwritten digits of scikit-learn.

    python scripts/image_level_example.py

The sources learn different tasks on one half of the digits: parts of the task (odd or even), the task on rotated,
negative or shuffled images, and random labels. The target is the other half: a few images per class are labeled, for
scoring and retraining; actual performance is the accuracy on the rest, with a new head on fixed features or, with
--layers all, after fine-tuning all layers.

Fixed source: every source on 100 random subsets of the classes. Fixed target: all sources on each subset.
"""

import argparse
import functools
import time
from collections.abc import Callable

import numpy as np
import torch
from sklearn.datasets import load_digits
from threadpoolctl import threadpool_limits
from torch.nn.functional import cross_entropy

from seg_transfer.console import plain_console
from seg_transfer.evaluation import SCRATCH, evaluate, scratch_report
from seg_transfer.image_level import class_subset_study, class_subsets, image_observations
from seg_transfer.reports.evaluation_tables import evaluation_tables
from seg_transfer.reports.tables import ranking_tables, render

METRICS = ("gbc", "logme", "h_score", "lda_score", "leep", "nleep")
JUDGED = (*METRICS, "rank_mean")
HIDDEN = (64, 32)
SIDE = 8
# Learning rates with which 200 steps fit nearly all labeled images.
RATES = {"head": 0.03, "all": 0.003}

Task = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def tasks(seed: int) -> dict[str, Task]:
    """Return name -> function from images (N, 8, 8) and digits (N,) to the images and labels a source learns from."""
    rng = np.random.default_rng(seed)
    order, labels = rng.permutation(SIDE * SIDE), rng.integers(0, 10, 10_000)
    return {
        "odd_even": lambda x, y: (x, y % 2),
        "low_high": lambda x, y: (x, y // 5),
        "has_loop": lambda x, y: (x, np.isin(y, [0, 6, 8, 9]).astype(int)),
        "only_0_to_4": lambda x, y: (x[y < 5], y[y < 5]),
        "mirrored": lambda x, y: (x[:, :, ::-1], y),
        "upside_down": lambda x, y: (x[:, ::-1, ::-1], y),
        "quarter_turn": lambda x, y: (np.rot90(x, axes=(1, 2)), y),
        "negative": lambda x, y: (1 - x, y),
        "shuffled_pixels": lambda x, y: (x.reshape(len(x), -1)[:, order].reshape(x.shape), y),
        "random_labels": lambda x, y: (x, labels[: len(y)]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100, help="random subsets of the classes")
    parser.add_argument("--shots", type=int, default=10, help="labeled images per class of the target")
    parser.add_argument("--steps", type=int, default=200, help="steps of every retraining")
    parser.add_argument("--layers", choices=["head", "all"], default="head", help="which layers are retrained")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        run(arguments)


def run(arguments: argparse.Namespace) -> None:
    start = time.perf_counter()
    images, digits = load_digits(return_X_y=True)
    order = np.random.default_rng(arguments.seed).permutation(len(digits))
    images, digits = images[order].reshape(-1, SIDE, SIDE) / 16, digits[order]
    half = len(digits) // 2
    few, rest = few_shot(digits[half:], arguments.shots)
    target = tensor(images[half:])

    networks = {}
    for name, task in tasks(arguments.seed).items():
        x, y = task(images[:half], digits[:half])
        networks[name] = train_network(tensor(x), torch.as_tensor(np.unique(y, return_inverse=True)[1]), arguments.seed)
    observations = {name: observe(network, target[few], digits[half:][few]) for name, network in networks.items()}
    networks[SCRATCH] = new_network(2, arguments.seed)

    @functools.cache
    def accuracies(*classes: int) -> dict[str, float]:
        train, test = (rows[np.isin(digits[half:][rows], classes)] for rows in (few, rest))
        codes = torch.as_tensor(np.searchsorted(classes, digits[half:]))
        tuned = fine_tune(networks, target[train], codes[train], len(classes), arguments)
        right = forward(tuned, target[test]).argmax(2) == codes[test]
        return dict(zip(networks, right.double().mean(1).tolist(), strict=True))

    def accuracy(source: str, classes: np.ndarray) -> float:
        return accuracies(*classes.tolist())[source]

    def study(subsets: list[np.ndarray]):
        return class_subset_study(observations, subsets, accuracy, METRICS, scratch=True)

    console = plain_console()
    everything = study([np.arange(10)])
    console.print(f"All ten classes, {arguments.shots} labeled images of each, {len(rest)} to evaluate on:\n")
    options = {"metrics": JUDGED, "scenarios": ["fixed_target"]}
    render(ranking_tables(everything, performance="accuracy", **options), console)
    render(evaluation_tables(evaluate(everything, **options), "accuracy"), console)
    pairs = study(class_subsets(10, n_draws=arguments.draws, seed=arguments.seed))
    console.print(f"{pairs['target'].nunique()} different targets among {arguments.draws} draws of 2 to 10 classes:\n")
    render(evaluation_tables(evaluate(pairs, metrics=JUDGED), "accuracy"), console)
    beaten = scratch_report(pairs)["beats_scratch"]
    print(f"The best source beats scratch (random weights) on {beaten.sum()} of {len(beaten)} targets.\nMean accuracy:")
    print(pairs.groupby("source")["miou"].mean().sort_values(ascending=False).round(3).to_string(header=False))
    print(f"{time.perf_counter() - start:.0f} s")


def few_shot(labels: np.ndarray, shots: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the first ``shots`` images of every class, and of all others."""
    few = np.sort(np.concatenate([np.flatnonzero(labels == label)[:shots] for label in np.unique(labels)]))
    return few, np.setdiff1d(np.arange(len(labels)), few)


def tensor(images: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(images.reshape(len(images), -1).copy(), dtype=torch.float32)


def new_network(n_classes: int, seed: int) -> torch.nn.Sequential:
    torch.manual_seed(seed)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in zip((SIDE * SIDE, *HIDDEN), HIDDEN, strict=False):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(HIDDEN[-1], n_classes))


def train_network(images: torch.Tensor, labels: torch.Tensor, seed: int, epochs: int = 20) -> torch.nn.Sequential:
    network = new_network(int(labels.max()) + 1, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(64):
            train_step(optimizer, network, images[rows], labels[rows])
    return network


def fine_tune(
    networks: dict[str, torch.nn.Sequential],
    images: torch.Tensor,
    labels: torch.Tensor,
    n_classes: int,
    arguments: argparse.Namespace,
) -> list[torch.Tensor]:
    """Train the same new head, or all layers, of every network; returns the weights, stacked over networks."""
    head = new_network(n_classes, arguments.seed)[-1].state_dict()
    states = [{**network[:-1].state_dict(), **head} for network in networks.values()]
    weights = [torch.stack([state[name] for state in states]) for name in states[0]]
    learning = weights if arguments.layers == "all" else weights[-2:]
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in learning], lr=RATES[arguments.layers])
    repeated = labels.repeat(len(networks))
    for _ in range(arguments.steps):
        optimizer.zero_grad()
        cross_entropy(forward(weights, images).flatten(0, 1), repeated, reduction="sum").div(len(labels)).backward()
        optimizer.step()
    return [weight.detach() for weight in weights]


def forward(weights: list[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """Compute scores (networks, N, classes) of images (N, 64) with the stacked weights and biases of the layers."""
    values = images.expand(len(weights[0]), -1, -1)
    for number in range(0, len(weights), 2):
        values = torch.baddbmm(weights[number + 1][:, None], values.relu() if number else values, weights[number].mT)
    return values


def train_step(optimizer: torch.optim.Optimizer, network: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer.zero_grad()
    cross_entropy(network(x), y).backward()
    optimizer.step()


def observe(network: torch.nn.Sequential, images: torch.Tensor, labels: np.ndarray):
    with torch.no_grad():
        features = network[:-1](images)
        return image_observations(features.numpy(), labels, network[-1](features).softmax(1).numpy())


if __name__ == "__main__":
    main()
