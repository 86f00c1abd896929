"""Make what the interactive network says of itself true on held-out synthesis: two small corrections, fitted once.

A *temperature* divides the logits of every voxel, so that of the voxels given 80 % about 80 % are inside; masks at 0.5
stay what they are. A line through the logit of the predicted overlap makes expected and reached overlap agree on
average. Both are fitted on synthetic samples that neither training nor its validation saw, and stand on the card. What
they are worth on real images is measured by the benchmark.

Source:
    Guo et al., ICML 2017 (temperature scaling); Platt, 1999 (the line).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from isocenter.learn.interactive_validation import answers_by_clicks, held_out
from isocenter.models.interactive.network import InteractiveNet

__all__ = ["fit_calibration"]

_FIRST = 100_000  # samples of the validation stream before this one belong to validation
_SAMPLES = {2: 96, 3: 32}
_CLICKS = 5
_VOXELS = 400  # looked at of every answer


def _nats(logits: Float[np.ndarray, " n"], truth: Float[np.ndarray, " n"]) -> float:
    """Return the mean cross-entropy."""
    return float(np.mean(np.logaddexp(0, logits) - truth * logits))


def fit_calibration(net: InteractiveNet, seed: int, *, samples: int | None = None) -> dict[str, float]:
    """Fit the corrections.

    Args:
        net: In evaluation mode.
        seed: Of the training.
        samples: Synthetic samples to look at; 96 planes or 32 volumes when left out.

    Returns:
        "temperature" of the voxels; "overlap_slope" and "overlap_offset" of the line through the logit of the
        predicted overlap.
    """
    dims = net.settings.dims
    count = _SAMPLES[dims] if samples is None else samples
    rng = np.random.Generator(np.random.PCG64(seed))
    logits, truths, judged, reached = [], [], [], []
    for shown in held_out(seed, dims, _FIRST, _FIRST + count):
        targets = np.stack([truth for _, truth in shown])
        for probability, quality in answers_by_clicks(net, shown, _CLICKS):
            for answer, expected, target in zip(probability[:, 0], quality[:, 0], targets, strict=True):
                flat = np.clip(answer.ravel().astype(np.float64), 1e-7, 1 - 1e-7)
                picked = rng.integers(0, flat.size, _VOXELS)
                logits.append(special.logit(flat[picked]))
                truths.append(target.ravel()[picked].astype(np.float64))
                mask = answer >= 0.5
                either = int((mask | target).sum())
                judged.append(float(special.logit(np.clip(expected, 1e-4, 1 - 1e-4))))
                reached.append(float((mask & target).sum()) / either if either else 1.0)
    all_logits, all_truths = np.concatenate(logits), np.concatenate(truths)
    found = optimize.minimize_scalar(
        lambda t: _nats(all_logits / np.exp(t), all_truths), bounds=(-1.5, 1.5), method="bounded"
    )
    says, is_so = np.array(judged), np.array(reached)
    # The slope stays positive: a network that judges itself backwards is not turned round, its verdict is levelled.
    line = optimize.minimize(
        lambda v: _nats(np.exp(np.clip(v[0], -3, 3)) * says + v[1], is_so), np.zeros(2), method="Nelder-Mead"
    )
    return {
        "temperature": round(float(np.exp(found.x)), 4),
        "overlap_slope": round(float(np.exp(np.clip(line.x[0], -3, 3))), 4),
        "overlap_offset": round(float(line.x[1]), 4),
    }
