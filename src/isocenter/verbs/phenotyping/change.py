"""A phenotype against an earlier one of the same patient: volumes, sums of diameters, response category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from isocenter.core.errors import ConfigError, DataError, IdentityLeak
from isocenter.tasks.phenotype.clinical import LONGEST, SHORT
from isocenter.tasks.phenotype.measure import VOLUME
from isocenter.tasks.phenotype.response import Lesion, NonTarget, response_category, volume_change
from isocenter.verbs.phenotyping.document import PhenotypeDocument, RegionEntry, ResponseEntry, VolumeEntry
from isocenter.verbs.result import StudyEntry

__all__ = ["ResponseOptions", "changed", "check_same_patient"]


_MOST_TARGETS, _MOST_OF_ORGAN = 5, 2


@dataclass(frozen=True)
class ResponseOptions:
    """What RECIST needs to know and no mask says.

    Args:
        nodal: Labels of segments that are lymph nodes.
        new_lesions: Whether a lesion has appeared.
        non_target: What became of lesions that are not measured.
        nadir_mm: Smallest sum of diameters so far; None for the earlier phenotype's.
        days: Days between the two images.
        targets: LABEL or LABEL=ORGAN of target lesions; none takes every segment of the earlier image.
        dated: What is known of the two dates, in words.
    """

    nodal: tuple[str, ...] = ()
    new_lesions: bool = False
    non_target: NonTarget = "none"
    nadir_mm: float | None = None
    days: float | None = None
    targets: tuple[str, ...] = ()
    dated: tuple[str, ...] = ("which image is the earlier one is taken from whoever asked: dates are not compared",)


def check_same_patient(earlier: PhenotypeDocument, now: StudyEntry, image_sha256: str) -> tuple[str, ...]:
    """Refuse an earlier phenotype of another patient or of the same image.

    Args:
        earlier: The earlier phenotype.
        now: Whose image is measured.
        image_sha256: Of that image.

    Returns:
        What the reader must know where files don't say whose they are.

    Raises:
        ConfigError: Both are of the same image.
        IdentityLeak: They are of two patients.
    """
    if earlier.image.sha256 == image_sha256:
        raise ConfigError("the earlier phenotype is of the same image: there is nothing to compare")
    if not (earlier.study.study_uid and now.study_uid):
        return ("not both files say whose they are: that they are of one patient is taken from whoever asked",)
    if earlier.study.patient_key != now.patient_key:
        raise IdentityLeak(
            "the earlier phenotype bears another pseudonym: it is of another patient, or was made with another key of "
            "pseudonyms (ISOCENTER_PSEUDONYM_KEY); nothing was compared"
        )
    return ()


def changed(earlier: PhenotypeDocument, regions: Sequence[RegionEntry], options: ResponseOptions) -> ResponseEntry:
    """Compare segments of the same label.

    Args:
        earlier: The earlier phenotype.
        regions: Segments now.
        options: What no mask says.

    Raises:
        ConfigError: A label of a node or target is not one of a segment; more than 5 targets, or more than 2 of an
            organ.
        DataError: Two segments have one label; days are not above 0.
    """
    before, after = _by_label(earlier.regions), _by_label(regions)
    unknown = sorted(set(options.nodal) - set(before) - set(after))
    if unknown:
        raise ConfigError(f"no segment is called {unknown[0]!r}, so it can't be a lymph node")
    chosen, told = _targets(options, before)
    volumes = []
    for label in sorted(set(before) & set(after)):
        then, now = (_value(r, VOLUME.value) for r in (before[label], after[label]))
        if then and now is not None:
            found = volume_change(then, now, days=options.days)
            volumes.append(
                VolumeEntry(
                    segment=label, earlier_ml=then, later_ml=now, share=found.share, doubling_days=found.doubling_days
                )
            )
    # What was empty then and is not now has appeared; it was no target.
    empty_then = {label for label, r in before.items() if r.voxels == 0 and label in after and after[label].voxels}
    targets = [
        lesion
        for label, r in before.items()
        if label in chosen and label not in empty_then and (lesion := _lesion(label, r, options)) is not None
    ]
    if not targets:
        reason = "the earlier phenotype has no diameters in axial planes"
        return ResponseEntry(category=None, reasons=(reason,), volumes=tuple(volumes))
    names = {t.name for t in targets}
    current = [
        lesion for label, r in after.items() if label in names and (lesion := _lesion(label, r, options)) is not None
    ]
    appeared = sorted({*(set(after) - set(before)), *empty_then})
    gone = sum(after[label].voxels == 0 for label in names & set(after))
    notes = [*options.dated, *told]
    if appeared:
        notes.append(f"{len(appeared)} segments have no counterpart then: they count only if new lesions are stated")
    if gone:
        notes.append(f"{gone} segments are empty now and count as gone: an outline that failed looks the same")
    result = response_category(
        targets, current, nadir_mm=options.nadir_mm, new_lesions=options.new_lesions, non_target=options.non_target
    )
    return ResponseEntry(
        category=result.category,
        reasons=result.reasons,
        target=result.target,
        baseline_mm=result.baseline_mm,
        current_mm=result.current_mm,
        nadir_mm=result.nadir_mm,
        from_baseline=result.from_baseline,
        from_nadir=result.from_nadir,
        volumes=tuple(volumes),
        notes=(*result.notes, *notes),
    )


def _targets(options: ResponseOptions, before: Mapping[str, RegionEntry]) -> tuple[frozenset[str], list[str]]:
    """Return labels of target lesions, and what to know of them.

    Source:
        RECIST 1.1 (Eisenhauer 2009), section 3.1: at most five target lesions in total and two per organ.
    """
    if not options.targets:
        note = f"no target was named (--target): all {len(before)} segments of the earlier image are taken as targets"
        return frozenset(before), [
            note,
            "organs are not known: that there are at most 2 targets of each was not looked at",
        ]
    organs: dict[str, str] = {}
    for text in options.targets:
        # A label may hold the sign itself.
        label, organ = (text, "") if text in before else tuple(part.strip() for part in text.rpartition("=")[::2])
        if label not in before:
            raise ConfigError(f"no segment of the earlier image is called {label or text!r}, so it can't be a target")
        if label in organs:
            raise ConfigError(f"{label!r} is named as a target twice")
        organs[label] = organ
    if len(organs) > _MOST_TARGETS:
        raise ConfigError(f"{len(organs)} targets; RECIST 1.1 takes at most {_MOST_TARGETS} in all, 2 of one organ")
    counts = Counter(organ for organ in organs.values() if organ)
    many = next((organ for organ, count in counts.items() if count > _MOST_OF_ORGAN), None)
    if many is not None:
        raise ConfigError(f"{counts[many]} targets of one organ ({many}); RECIST 1.1 takes at most {_MOST_OF_ORGAN}")
    notes = []
    if unknown := sum(not organ for organ in organs.values()):
        notes.append(
            f"the organ of {unknown} targets is not stated: that there are at most 2 of each was not looked at"
        )
    if others := len(set(before) - set(organs)):
        notes.append(f"{others} segments are no targets and count only as far as non_target of the configuration says")
    return frozenset(organs), notes


def _by_label(regions: Sequence[RegionEntry]) -> dict[str, RegionEntry]:
    found = {region.segment.label: region for region in regions}
    if len(found) != len(regions):
        raise DataError("two segments have one label, so that it can't be told which was which then")
    return found


def _value(region: RegionEntry, code: str) -> float | None:
    return next((m.value for m in region.measurements if m.name.value == code), None)


def _lesion(label: str, region: RegionEntry, options: ResponseOptions) -> Lesion | None:
    nodal = label in options.nodal
    if region.voxels == 0:
        # An empty segment that is named is a lesion that was looked for and is gone.
        return Lesion(label, 0.0, 0.0, nodal)
    longest, short = _value(region, LONGEST.value), _value(region, SHORT.value)
    if longest is None or short is None:
        return None
    return Lesion(label, longest, min(short, longest), nodal)
