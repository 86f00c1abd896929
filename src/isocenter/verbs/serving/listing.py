"""The study list: filters, order, pages, and what is known of the work on each study."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from isocenter.viewer.ports import Status, StudyItem, StudyPage, StudyQuery

__all__ = ["Standing", "listed", "stand", "with_priors"]

Standing = Callable[[str], tuple[Status, str | None]]
"""How far the work on a study is, and whom it is assigned to."""
_STATUS = ("new", "open", "read", "signed")


def with_priors(items: Iterable[StudyItem]) -> list[StudyItem]:
    """Count for each study the earlier ones of its patient; studies without a date have and are none."""
    items = list(items)
    dates: dict[str, list[str]] = defaultdict(list)
    for item in items:
        if item.study_date:
            dates[item.patient_key].append(item.study_date)
    out = []
    for item in items:
        date = item.study_date
        earlier = sum(d < date for d in dates[item.patient_key]) if date else 0
        out.append(replace(item, prior=earlier) if earlier != item.prior else item)
    return out


def stand(items: Iterable[StudyItem], standing: Standing) -> list[StudyItem]:
    """Return studies with how far the work on each is, and whom it is assigned to."""
    out = []
    for item in items:
        status, assigned = standing(item.id)
        same = status == item.status and assigned == item.assigned_to
        out.append(item if same else replace(item, status=status, assigned_to=assigned))
    return out


def listed(items: Sequence[StudyItem], query: StudyQuery, *, scanning: bool = False) -> StudyPage:
    """Return the studies that a query finds."""
    words = query.q.casefold().split()
    found = [i for i in items if _fits(i, query) and _holds(i, words)]
    order, backward = query.order.lstrip("-"), query.order.startswith("-")
    if order == "date":
        # Newest first; those without a date last, whichever way round.
        dated = [i for i in found if i.study_date]
        dated.sort(key=lambda i: (i.study_date or "", i.id), reverse=not backward)
        found = [*dated, *sorted((i for i in found if not i.study_date), key=lambda i: (i.description, i.id))]
    else:
        keys: dict[str, Callable[[StudyItem], object]] = {
            "patient": lambda i: (i.patient_key, i.study_date or "", i.id),
            "description": lambda i: (i.description.casefold(), i.id),
            "status": lambda i: (_STATUS.index(i.status), i.study_date or "", i.id),
        }
        found.sort(key=keys[order], reverse=backward)  # type: ignore[arg-type]
    return StudyPage(len(found), tuple(found[query.offset : query.offset + query.limit]), scanning)


def _fits(item: StudyItem, query: StudyQuery) -> bool:
    if query.modality and query.modality not in item.modalities:
        return False
    if query.patient and query.patient != item.patient_key:
        return False
    if query.status and query.status != item.status:
        return False
    if query.date_from and (item.study_date is None or item.study_date < query.date_from):
        return False
    return not (query.date_to and (item.study_date is None or item.study_date > query.date_to))


def _holds(item: StudyItem, words: Sequence[str]) -> bool:
    if not words:
        return True
    parts = (item.description, *item.modalities, item.patient_key, item.id, item.accession or "", item.study_date or "")
    text = " ".join(parts).casefold()
    return all(word in text for word in words)
