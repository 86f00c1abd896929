"""Isocenter: large models in medical imaging, from the archive to the bedside.

    >>> import isocenter
    >>> isocenter.__version__
    '0.1.0'

`isocenter.read`, `segment`, `pretrain`, `align`, `adapt` and `demo` are the verbs of the command line as functions.
They are imported when first used, so that ``import isocenter`` is fast and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.verbs.adapt import adapt
    from isocenter.verbs.align import align
    from isocenter.verbs.demo import demo
    from isocenter.verbs.pretrain import pretrain
    from isocenter.verbs.read import read
    from isocenter.verbs.result import ResultDocument, read_result
    from isocenter.verbs.segment import segment

__all__ = ["ResultDocument", "__version__", "adapt", "align", "demo", "pretrain", "read", "read_result", "segment"]

_LAZY = {
    "ResultDocument": "isocenter.verbs.result",
    "adapt": "isocenter.verbs.adapt",
    "align": "isocenter.verbs.align",
    "demo": "isocenter.verbs.demo",
    "pretrain": "isocenter.verbs.pretrain",
    "read": "isocenter.verbs.read",
    "read_result": "isocenter.verbs.result",
    "segment": "isocenter.verbs.segment",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'isocenter' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
