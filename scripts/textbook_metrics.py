"""Textbook versions of metrics for the comparison in `benchmark_metrics.py`: published formulas in plain NumPy."""

from collections.abc import Callable

import numpy as np

from seg_transfer.observations import Observations


def textbook_score(name: str, observations: Observations) -> float:
    """Compute the score of a metric by its textbook version."""
    assert observations.features is not None
    assert observations.source_probs is not None
    labels = np.unique(observations.labels, return_inverse=True)[1]
    by_probs = name in ("leep", "nce")
    return TEXTBOOK[name](observations.source_probs if by_probs else observations.features.astype(np.float64), labels)


def _textbook_gbc(x: np.ndarray, y: np.ndarray) -> float:
    from sklearn.decomposition import PCA

    z = PCA(64).fit_transform(x)
    means = [z[y == c].mean(axis=0) for c in range(y.max() + 1)]
    variances = [np.maximum(z[y == c].var(axis=0, ddof=1), 1e-4) for c in range(y.max() + 1)]
    total = 0.0
    for i, (mean_i, var_i) in enumerate(zip(means, variances, strict=True)):
        for j, (mean_j, var_j) in enumerate(zip(means, variances, strict=True)):
            if i != j:
                middle = (var_i + var_j) / 2
                distance = ((mean_i - mean_j) ** 2 / middle).sum() / 8
                total -= np.exp(-distance - np.log(middle / np.sqrt(var_i * var_j)).sum() / 2)
    return float(total)


def _textbook_logme(x: np.ndarray, y: np.ndarray) -> float:
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    (n, d), eigenvalues, values = x.shape, s**2, []
    for c in range(y.max() + 1):
        column = (y == c).astype(np.float64)
        fit = (u.T @ column) ** 2
        residual = max(column @ column - fit.sum(), 0.0)
        alpha = beta = 1.0
        for _ in range(11):
            t = alpha / beta
            gamma = (eigenvalues / (eigenvalues + t)).sum()
            weight = (eigenvalues * fit / (eigenvalues + t) ** 2).sum()
            error = ((t / (eigenvalues + t)) ** 2 * fit).sum() + residual
            alpha, beta = gamma / (weight + 1e-5), (n - gamma) / (error + 1e-5)
            if abs(alpha / beta - t) <= 1e-3 * t:
                break
        evidence = d / 2 * np.log(alpha) + n / 2 * np.log(beta) - np.log(alpha + beta * eigenvalues).sum() / 2
        values.append((evidence - beta / 2 * error - alpha / 2 * weight) / n - np.log(2 * np.pi) / 2)
    return float(np.mean(values))


def _class_means(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.stack([x[y == c].mean(axis=0) for c in range(y.max() + 1)])[y]


def _textbook_h_score(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.trace(np.linalg.pinv(np.cov(x.T)) @ np.cov(_class_means(x, y).T)))


def _textbook_regularized_h_score(x: np.ndarray, y: np.ndarray) -> float:
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf().fit(x)
    between = (1 - fitted.shrinkage_) * np.cov(_class_means(x, y).T, ddof=0)
    return float(np.trace(np.linalg.pinv(fitted.covariance_) @ between))


def _textbook_lda_score(x: np.ndarray, y: np.ndarray) -> float:
    means = _class_means(x, y)
    return float(np.trace(np.linalg.pinv(np.cov((x - means).T)) @ np.cov(means.T)))


def _textbook_leep(p: np.ndarray, y: np.ndarray) -> float:
    joint = np.stack([p[y == c].sum(axis=0, dtype=np.float64) for c in range(y.max() + 1)]) / len(y)
    conditional = joint / joint.sum(axis=0)
    return float(np.log((p @ conditional.T)[np.arange(len(y)), y]).mean())


def _textbook_nce(p: np.ndarray, y: np.ndarray) -> float:
    joint = np.zeros((y.max() + 1, p.shape[1]))
    np.add.at(joint, (y, p.argmax(axis=1)), 1 / len(y))
    held = joint > 0
    return float((joint * np.log(np.where(held, joint, 1) / np.where(held, joint.sum(axis=0), 1))).sum())


def _textbook_trans_rate(x: np.ndarray, y: np.ndarray) -> float:
    def rate(z: np.ndarray) -> float:
        return float(np.linalg.slogdet(np.eye(z.shape[1]) + z.T @ z / (len(z) * 1e-4))[1] / 2)

    z = x - x.mean(axis=0)
    return rate(z) - sum(np.mean(y == c) * rate(z[y == c]) for c in range(y.max() + 1))


TEXTBOOK: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    name.removeprefix("_textbook_"): function
    for name, function in list(globals().items())
    if name.startswith("_textbook_")
}
