"""What evidence must keep: the same tomorrow, on the image's own grid, finite, and without a hand in the answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isocenter.core import Explains, Explanation, Prediction, Prompt, Study, Task
from isocenter.core.errors import PluginError

__all__ = ["check_evidence"]


def check_evidence(task: Task, study: Study, prompts: Sequence[Prompt] = ()) -> Explanation:
    """Hold the evidence of a task to the contract of `core.Explains`.

    Args:
        task: A task that explains.
        study: A study with one image.
        prompts: Prompts for it.

    Returns:
        The evidence; empty where the task abstained.

    Raises:
        PluginError: The contract is broken; says where.
    """
    name = task.card.name

    def require(holds: bool, reason: str) -> None:
        if not holds:
            raise PluginError(f"task {name!r} breaks the contract of evidence: {reason}")

    if not isinstance(task, Explains):
        raise PluginError(f"task {name!r} does not explain: it has no method explain(study, prediction)")
    image = study.images[0]
    before = image.array.copy()
    first = task.run(study, prompts)
    found = task.explain(study, first)
    require(np.array_equal(before, image.array), "explain() must not change its input")
    require(_same_answer(first, task.run(study, prompts)), "explain() must not move the next answer")
    again = task.explain(study, first)
    require(_same(found, again), "the same answer is explained in two ways")
    if first.abstained is not None:
        require(not (found.maps or found.neighbours or found.features), "an abstention has no evidence")
        return found
    for one in found.maps:
        require(one.geometry == image.geometry, "a map must be on its image's own grid, bit for bit")
        require(bool(np.isfinite(one.array).all()), "a map must be finite")
    far = [near.distance for near in found.neighbours]
    require(far == sorted(far) and all(np.isfinite(far)), "neighbours must come nearest first")
    return found


def _same_answer(one: Prediction, other: Prediction) -> bool:
    return (one.abstained, one.measurements) == (other.abstained, other.measurements)


def _same(one: Explanation, other: Explanation) -> bool:
    plain = [
        (e.neighbours, e.missing, e.retrieval, [(f.text, dict(f.numbers)) for f in e.features]) for e in (one, other)
    ]
    maps = [[(m.about, m.array.tobytes()) for m in e.maps] for e in (one, other)]
    return plain[0] == plain[1] and maps[0] == maps[1]
