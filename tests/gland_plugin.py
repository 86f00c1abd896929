"""An installed task that outlines the brightest part of a CT as a left adrenal gland, and says why; for the page."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""A task that needs no weights."""
import time
import numpy as np
from isocenter.core import (
    Code, EvidenceMap, Explanation, Mask, ModelRef, Prediction, Segment, TaskCard, TaskEntry, Uncertainty,
)
CARD = TaskCard(
    name="toy-gland", title="Left adrenal gland", modalities=("CT",), body_parts=(), needs_volume=None,
    needs_spacing=False, prompts=(), needs_prompt=False, intended_use="Tests.", not_for="Patients.", licence="MIT",
)
GLAND, LEFT = Code("23451007", "SCT", "Adrenal gland"), Code("7771000", "SCT", "Left")

class Gland:
    card = CARD
    def run(self, study, prompts=()):
        image = study.images[0]
        reason = self.card.misfit(image)
        if reason is not None:
            return Prediction.abstain(self.card.name, reason)
        time.sleep(1.5)  # long enough to be seen, and stopped
        values = image.array[0]
        labels = (values > 0.5 * (float(values.max()) + float(values.mean()))).astype(np.uint16)
        segment = Segment(1, "Left adrenal gland", type=GLAND, laterality=LEFT, algorithm_name="toy")
        return Prediction(
            Mask(labels, image.geometry, (segment,), image.source), self.card.name,
            uncertainty=Uncertainty("quality", "nothing is promised", per_segment={1: 0.5}),
            model=ModelRef("toy", "1", "", "MIT"), inputs=(image.source.sha256 or "unknown",),
        )
    def explain(self, study, prediction):
        values = study.images[0].array[0].astype(np.float64)
        low = values - values.min()
        return Explanation(maps=(EvidenceMap(GLAND, low / low.max(), study.images[0].geometry, "brightness"),))

ENTRY = TaskEntry(CARD, "glandplug:Gland")
'''


def install_gland(folder: Path) -> Path:
    """Write the distribution; return the folder that is put on the path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "glandplug.py").write_text(MODULE, "utf-8")
    info = folder / "glandplug-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: glandplug\nVersion: 1.0\nLicense: MIT\n", "utf-8")
    (info / "entry_points.txt").write_text("[isocenter.tasks]\ntoy-gland = glandplug:ENTRY\n", "utf-8")
    return folder
