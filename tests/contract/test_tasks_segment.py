"""The automatic tasks hold the contract that every task must hold."""

from __future__ import annotations

import pytest

from isocenter.tasks.segment.hippocampus_t1.cards import ENTRY as HIPPOCAMPUS
from isocenter.tasks.segment.lungs_cxr.cards import ENTRY as LUNGS
from isocenter.testing.task_contract import check_task


@pytest.mark.parametrize("entry", [LUNGS, HIPPOCAMPUS], ids=lambda entry: entry.card.name)
def test_the_contract_is_kept(entry):
    report = check_task(entry)
    assert report.task == entry.card.name
    assert report.abstained >= 4  # an invented ellipsoid is neither two lungs nor a hippocampus
    assert report.answered == 0
