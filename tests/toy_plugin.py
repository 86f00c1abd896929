"""An installed package that the tests make up: a distribution with entry points, in a folder put on the path."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""Tasks that need no weights."""
import os
import time
import numpy as np
from isocenter.core import (
    Image, Mask, ModelRef, Prediction, Segment, Source, Study, TaskCard, TaskEntry, Uncertainty,
)

def card(name, **changes):
    given = dict(
        name=name, title="Voxels brighter than the mean", modalities=("CT",), body_parts=(), needs_volume=None,
        needs_spacing=False, prompts=(), needs_prompt=False, intended_use="Tests.", not_for="Patients.", licence="MIT",
    )
    return TaskCard(**{**given, **changes})

class Bright:
    def __init__(self, name="toy-bright", wait=0.0, fail="", prompts=()):
        self.card = card(name, prompts=tuple(prompts), needs_prompt=bool(prompts))
        self.wait, self.fail = wait, fail
    def run(self, study, prompts=()):
        if len(study.images) != 1:
            return Prediction.abstain(self.card.name, "needs a study with exactly one image")
        image = study.images[0]
        reason = self.card.misfit(image)
        if reason is not None:
            return Prediction.abstain(self.card.name, reason)
        if self.card.needs_prompt and not prompts:
            return Prediction.abstain(self.card.name, "needs a point")
        if self.wait:
            print("a task that prints")
            if "TOY_MARK" in os.environ:
                open(os.environ["TOY_MARK"], "w").close()
            time.sleep(self.wait)
        if self.fail:
            raise RuntimeError(self.fail)
        values = image.array[0]
        labels = (values > values.mean()).astype(np.uint16)
        label = prompts[0].label if prompts else "Bright"
        return Prediction(
            Mask(labels, image.geometry, (Segment(1, label, algorithm_name="toy"),), image.source), self.card.name,
            uncertainty=Uncertainty("quality", "nothing is promised", per_segment={1: 0.5}),
            model=ModelRef("toy", "1", "", "MIT"), inputs=(image.source.sha256 or "unknown",),
        )

def read(path, *, on_irregular="raise", progress=None):
    from isocenter.data.images.study_files import StudyFiles
    from isocenter.testing import phantom
    return StudyFiles(Study("key", images=(phantom(),)))

def make_slow(): return Bright("toy-slow", wait=60.0)
def make_broken(): return Bright("toy-broken", fail="PATIENT^MARKER in a message")
def make_point(): return Bright("toy-point", prompts=("point",))
def make_other(): return Bright("another-name")
BRIGHT = TaskEntry(card("toy-bright"), "toyplug:Bright")
SLOW = TaskEntry(card("toy-slow"), "toyplug:make_slow")
BROKEN = TaskEntry(card("toy-broken"), "toyplug:make_broken")
POINT = TaskEntry(card("toy-point", prompts=("point",), needs_prompt=True), "toyplug:make_point")
CHANGELING = TaskEntry(card("toy-changeling"), "toyplug:make_other")
NEEDS = TaskEntry(card("toy-needs", requires=("no_such_package",)), "toyplug:Bright")
NOT_A_TASK = "text"
'''


def install_toy(
    folder: Path, tasks: dict[str, str], *, readers: dict[str, str] | None = None, name: str = "toyplug"
) -> Path:
    """Write a distribution that registers tasks ({name: attribute of the module}) and readers; return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "toyplug.py").write_text(MODULE, "utf-8")
    info = folder / f"{name}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\nLicense: MIT\n", "utf-8")
    lines = ["[isocenter.tasks]", *(f"{k} = {v if ':' in v else 'toyplug:' + v}" for k, v in tasks.items())]
    lines += ["[isocenter.readers]", *(f"{k} = toyplug:{v}" for k, v in (readers or {}).items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")
    return folder
