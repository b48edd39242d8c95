"""Which images of a training set are held out: `stratified` takes the same share of every class, the same in every run."""

import numpy as np

SPLIT_SEED = 20_230_614  # of the splits only; a run's --seed never moves an image from one split to another


def stratified(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, chosen), both sorted: `share` of every class is chosen, counts rounded per class."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        chosen.append(members[: round(share * len(members))])
    picked = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), picked), picked
