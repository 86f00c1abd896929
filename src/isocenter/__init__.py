"""Isocenter: large models in medical imaging, from the archive to the bedside.

    >>> import isocenter
    >>> isocenter.__version__
    '0.1.0'

`isocenter.read`, `segment`, `pretrain`, `plan`, `align`, `adapt` (from a session), `adapt_data` (to a labelled set),
`adapt_pairs` (to images with words),
`evaluate_predictions` (`isocenter.evaluate` is the room of metrics), `check`, `label_reports`, `report`, `diagnose`,
`phenotype`, `treat`, `prognose`, `prognose_people`, `ask`, `demo`, `models_add`, `models_list`, `models_check` and
`models_card` are the verbs of the command line as functions; `open_weights` opens a model. They are imported when first
used: ``import isocenter`` is fast and needs no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.models.passport.door import open_weights
    from isocenter.verbs.adapt import adapt
    from isocenter.verbs.adapt_data import adapt_data
    from isocenter.verbs.adapt_pairs import adapt_pairs
    from isocenter.verbs.align import align
    from isocenter.verbs.ask import ask
    from isocenter.verbs.audit import audit_change, audit_show, audit_verify
    from isocenter.verbs.check import check
    from isocenter.verbs.demo import demo
    from isocenter.verbs.diagnose import diagnose
    from isocenter.verbs.evaluate import evaluate_predictions
    from isocenter.verbs.label import label_reports
    from isocenter.verbs.models import models_add, models_card, models_check, models_list
    from isocenter.verbs.phenotype import phenotype
    from isocenter.verbs.plan import plan
    from isocenter.verbs.pretrain import pretrain
    from isocenter.verbs.prognose import prognose, prognose_people
    from isocenter.verbs.read import read
    from isocenter.verbs.reports import report
    from isocenter.verbs.result import ResultDocument, read_result
    from isocenter.verbs.segment import segment
    from isocenter.verbs.treat import treat

__all__ = [
    "ResultDocument",
    "__version__",
    "adapt",
    "adapt_data",
    "adapt_pairs",
    "align",
    "ask",
    "audit_change",
    "audit_show",
    "audit_verify",
    "check",
    "demo",
    "diagnose",
    "evaluate_predictions",
    "label_reports",
    "models_add",
    "models_card",
    "models_check",
    "models_list",
    "open_weights",
    "phenotype",
    "plan",
    "pretrain",
    "prognose",
    "prognose_people",
    "read",
    "read_result",
    "report",
    "segment",
    "treat",
]

_LAZY = {
    "ResultDocument": "isocenter.verbs.result",
    "adapt": "isocenter.verbs.adapt",
    "adapt_data": "isocenter.verbs.adapt_data",
    "adapt_pairs": "isocenter.verbs.adapt_pairs",
    "align": "isocenter.verbs.align",
    "ask": "isocenter.verbs.ask",
    "audit_change": "isocenter.verbs.audit",
    "audit_show": "isocenter.verbs.audit",
    "audit_verify": "isocenter.verbs.audit",
    "check": "isocenter.verbs.check",
    "demo": "isocenter.verbs.demo",
    "diagnose": "isocenter.verbs.diagnose",
    "evaluate_predictions": "isocenter.verbs.evaluate",
    "label_reports": "isocenter.verbs.label",
    "models_add": "isocenter.verbs.models",
    "models_card": "isocenter.verbs.models",
    "models_check": "isocenter.verbs.models",
    "models_list": "isocenter.verbs.models",
    "open_weights": "isocenter.models.passport.door",
    "phenotype": "isocenter.verbs.phenotype",
    "plan": "isocenter.verbs.plan",
    "pretrain": "isocenter.verbs.pretrain",
    "prognose": "isocenter.verbs.prognose",
    "prognose_people": "isocenter.verbs.prognose",
    "read": "isocenter.verbs.read",
    "read_result": "isocenter.verbs.result",
    "report": "isocenter.verbs.reports",
    "segment": "isocenter.verbs.segment",
    "treat": "isocenter.verbs.treat",
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
