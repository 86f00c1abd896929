"""Join image and language: learn from pairs of images and reports, then classify and retrieve by words.

`isocenter align CONFIG` trains; `isocenter align classify` and `isocenter align retrieve` ask what was trained. The
run's folder holds the resolved configuration with what was learnt from (`run.json`), the tables of steps and
validations, the curves, the checkpoint, the held-out figures (`held_out.json`), and the weights with vocabulary and
card.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.data.images.atomic import explain_os_error
from isocenter.safety.audit import AuditedAnswer
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.pretrain import missing_for_learning
from isocenter.verbs.provenance import machine
from isocenter.verbs.read import Progress
from isocenter.verbs.run_folder import begin_run
from isocenter.verbs.settings import configured

if TYPE_CHECKING:
    from isocenter.learn.alignment.measure import Figure
    from isocenter.models.aligned import Aligned

__all__ = [
    "AlignConfig",
    "AlignResult",
    "Answers",
    "FigureRow",
    "Found",
    "align",
    "classify",
    "retrieve",
    "run",
]

CURVES = "curves.png"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class AlignConfig(_Strict):
    """Configuration of `isocenter align`.

    Attributes:
        config: YAML file with every setting of the training; see configs/align-2d.yaml.
        out: Folder of the run; must not exist or be empty unless `resume`.
        data: Folder of the table and the pictures; None where the configuration learns from synthesis.
        resume: Whether to go on from the run's checkpoint.
        until: Stop at this step; None for the end.
        checkpoint_minutes: Longest time between two checkpoints.
    """

    config: Path
    out: Path
    data: Path | None = None
    resume: bool = False
    until: int | None = Field(default=None, ge=1)
    checkpoint_minutes: float = Field(default=3.0, gt=0)


class FigureRow(_Strict):
    """One held-out figure; see `learn.alignment.measure.Figure`."""

    name: str
    value: float
    low: float | None
    high: float | None
    chance: float
    unseen: float | None
    patients: int
    count: int

    def line(self) -> str:
        """Return the figure as a line for people."""
        interval = "" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})"
        unseen = "" if self.unseen is None else f", without looking {self.unseen:.3f}"
        return f"{self.name}: {self.value:.3f}{interval}; chance {self.chance:.3f}{unseen}"


class AlignResult(_Strict):
    """What a training came to.

    Attributes:
        step: Steps done.
        steps: Steps of the whole training.
        finished: Whether it reached its end.
        figures: Measured on patients that were never seen.
        weights: File of the weights; card and vocabulary lie beside it.
        curves: Picture of the curves.
        seconds: Of this call.
    """

    step: int
    steps: int
    finished: bool
    figures: tuple[FigureRow, ...]
    weights: Path
    curves: Path
    seconds: float

    def lines(self) -> list[str]:
        """Return the result as lines for people."""
        head = f"step {self.step} of {self.steps}{'' if self.finished else '; go on with --resume'}"
        held = [f"  {figure.line()}" for figure in self.figures]
        return [head, "held-out patients:", *held, f"weights: {self.weights}", f"curves: {self.curves}"]


class Answers(_Strict):
    """What `classify` found.

    Attributes:
        weights_sha256: Hash of the weights that answered.
        findings: The words that were asked for.
        images: One entry for each image: its name and, by finding, how much better "there" fits than "not there",
            0 to 1. It ranks images; it is no probability of disease.
    """

    weights_sha256: str
    findings: tuple[str, ...]
    images: tuple[dict[str, Any], ...]

    def lines(self) -> list[str]:
        """Return the answers as lines for people."""
        return [
            f"{row['image']}: " + ", ".join(f"{finding} {score:.3f}" for finding, score in row["scores"].items())
            for row in self.images
        ]


class Found(_Strict):
    """What `retrieve` found.

    Attributes:
        weights_sha256: Hash of the weights that answered.
        query: "text", "image" or "all".
        results: Row of the table, similarity (a cosine) and what it is, best first; empty for "all".
        figures: For "all": recall at k in both directions against chance.
    """

    weights_sha256: str
    query: str
    results: tuple[dict[str, Any], ...] = ()
    figures: tuple[FigureRow, ...] = ()

    def lines(self) -> list[str]:
        """Return what was found as lines for people."""
        found = [f"{r['similarity']:.3f}  row {r['row']}: {r.get('image') or r.get('report')}" for r in self.results]
        return found + [figure.line() for figure in self.figures]


def align(config: Path | str, out: Path | str, *, progress: Progress | None = None, **settings: Any) -> AlignResult:
    """Train what a configuration says, into a folder.

    Args:
        config: YAML file, e.g. configs/align-2d.yaml.
        out: Folder of the run.
        progress: Called with how it goes and how much is done.
        **settings: Any further field of `AlignConfig`.

    Returns:
        Where the weights are, and what they are held to.

    Raises:
        ConfigError: A setting is wrong, the folder is taken, or its run is of another configuration or of other data.
        DataError: The table or a picture is not what it must be.
        IdentityLeak: The table puts a patient into two splits.
        CapabilityError: A package that training needs is not installed.
        WeightsError: A checkpoint, weights to begin with or a folder of a text tower can't be read.
        OutputError: The disk is full, or the folder can't be written.
    """
    checked = configured(AlignConfig, config=Path(config), out=Path(out), **settings)
    return run(checked, progress)


def run(config: AlignConfig, progress: Progress | None = None) -> AlignResult:
    """Do what an `AlignConfig` says; see `align`."""
    tell, started = progress or (lambda _stage, _done: None), time.monotonic()
    _check_packages("learn")
    from isocenter.learn.alignment.config import load_config
    from isocenter.learn.alignment.export import draw_curves, export
    from isocenter.learn.alignment.pairs import open_pairs
    from isocenter.learn.alignment.trainer import Trainer

    training = load_config(config.config)
    tell("reading pairs", 0.0)
    pairs = open_pairs(training.data, training.image.side, config.data, training.seed)
    trainer = Trainer(training, pairs, config.out)
    data = {**pairs.identity, "vocabulary_sha256": trainer.vocabulary_sha256}
    try:
        begin_run(
            config.out,
            "align",
            training.model_dump(mode="json"),
            data,
            resume=config.resume,
            until=config.until,
        )
        trainer.run(
            until=config.until,
            resume=config.resume,
            checkpoint_minutes=config.checkpoint_minutes,
            tell_step=_Watch(tell, training.steps, training.batch).step,
        )
        tell("held-out figures, weights and card", 1.0)
        given = "" if config.data is None else " --data DATA"
        command = f"isocenter align {config.config.name}{given} --out RUN"
        weights, figures = export(trainer, config.out, command=command, machine=machine())
        draw_curves(config.out, config.out / CURVES, training)
    except OSError as error:
        raise explain_os_error(error, config.out, doing="write") from error
    return AlignResult(
        step=trainer.step,
        steps=training.steps,
        finished=trainer.step >= training.steps,
        figures=_as_rows(figures),
        weights=weights,
        curves=config.out / CURVES,
        seconds=round(time.monotonic() - started, 3),
    )


def classify(
    weights: Path | str, images: Sequence[Path | str], findings: Sequence[str], *, audit: Path | None = None
) -> Answers:
    """Say of pictures how well findings, told in words, fit them: no training, no labels.

    Args:
        weights: File of aligned weights, or the folder of a run.
        images: Pictures as they are hung: the patient's left at the right edge.
        findings: Words, e.g. "pleural effusion"; no record holds them.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.

    Raises:
        ConfigError: There is no picture or no finding, or a finding has no words.
        DataError: A picture can't be read.
        WeightsError: The weights or their vocabulary are not what the card vouches for.
        CapabilityError: A package is not installed.
    """
    with audited(audit, "align-classify") as place:
        found, files = _classified(weights, images, findings), [Path(path) for path in images]
        _record(place, "align-classify", found.weights_sha256, files)
    return found


def _record(place: Path | None, verb: str, weights: str, files: Sequence[Path], inputs: Sequence[Path] = ()) -> None:
    if place is not None:
        answers = [AuditedAnswer("align", file_sha256(file), "answered", weights) for file in files]
        record_run(place, verb, answers, inputs=sorted({file_sha256(file) for file in (*files, *inputs)}))


def _classified(weights: Path | str, images: Sequence[Path | str], findings: Sequence[str]) -> Answers:
    if not images or not findings or not all(f.strip() for f in findings):
        raise ConfigError("classifying needs a picture and, with --finding, the words of a finding")
    aligned = _load(weights)
    from isocenter.data.pairs import read_plane
    from isocenter.learn.alignment.measure import weigh_phrase

    vectors = aligned.embed_images([read_plane(Path(path)) for path in images])
    scores = {finding: weigh_phrase(aligned, vectors, finding) for finding in findings}
    rows = tuple(
        {"image": Path(path).name, "scores": {finding: float(s[i]) for finding, s in scores.items()}}
        for i, path in enumerate(images)
    )
    return Answers(weights_sha256=_sha256(aligned), findings=tuple(findings), images=rows)


def retrieve(
    weights: Path | str,
    table: Path | str,
    *,
    text: str | None = None,
    image: Path | str | None = None,
    top: int = 5,
    patient_column: str | None = None,
    audit: Path | None = None,
) -> Found:
    """Find images by words or reports by an image in a table of pairs; without a query, measure how well that works.

    Args:
        weights: File of aligned weights, or the folder of a run.
        table: CSV with the columns image and report; pictures lie relative to it.
        text: Words: the pictures that fit best are found.
        image: Picture: the reports that fit best are found.
        top: How many.
        patient_column: Column of the patient, for the intervals; None where every row is a patient of its own.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.

    Raises:
        ConfigError: Both queries are given, or `top` is below 1.
        DataError: The table or a picture is not what it must be.
        WeightsError: The weights or their vocabulary are not what the card vouches for.
        CapabilityError: A package is not installed.
    """
    with audited(audit, "align-retrieve") as place:
        if (text is not None and image is not None) or top < 1:
            raise ConfigError("give words (--text), a picture (--image), or neither to measure; and --top of 1 or more")
        found, files = _retrieved(weights, Path(table), (text, image), top, patient_column)
        _record(place, "align-retrieve", found.weights_sha256, files, [Path(table)])
    return found


def _retrieved(
    weights: Path | str, table: Path, query: tuple[str | None, Path | str | None], top: int, patient_column: str | None
) -> tuple[Found, list[Path]]:
    """Return what was found, and the pictures that the answer is of."""
    text, image = query
    aligned = _load(weights)
    from isocenter.data.pairs import PairColumns, read_pair_table, read_plane
    from isocenter.learn.alignment.measure import KS, retrieval_figures
    from isocenter.learn.alignment.pairs import reported_pairs

    rows = read_pair_table(table, table.parent, PairColumns(patient=patient_column))
    pairs = reported_pairs(rows, table.name, aligned.image_input)
    places = list(range(len(rows)))
    if image is not None:
        reports = aligned.embed_texts([" ".join(pairs.pairs[i].sentences) for i in places])
        alike = reports @ aligned.embed_images([read_plane(Path(image))])[0]
    else:
        pictures = aligned.embed_images([pairs.plane(i) for i in places])
        if text is None:
            reports = aligned.embed_texts([" ".join(pairs.pairs[i].sentences) for i in places])
            figures = retrieval_figures(pairs, places, pictures, reports, [k for k in KS if k < len(places)] or [1])
            return Found(weights_sha256=_sha256(aligned), query="all", figures=_as_rows(figures)), []
        alike = pictures @ aligned.embed_texts([text])[0]
    order = sorted(places, key=lambda i: (-float(alike[i]), i))[:top]
    results = tuple(
        {
            "row": rows[i].number,
            "similarity": round(float(alike[i]), 4),
            **({"report": rows[i].text} if image is not None else {"image": rows[i].image.name}),
        }
        for i in order
    )
    found = Found(weights_sha256=_sha256(aligned), query="text" if image is None else "image", results=results)
    return found, [rows[i].image for i in order] if image is None else [Path(image)]


class _Watch:
    """Puts what a step says into words: where it stands, how fast it is, how long it will take."""

    def __init__(self, tell: Progress, steps: int, batch: int) -> None:
        self._tell, self._steps, self._batch = tell, steps, batch
        self._recent: deque[float] = deque([time.monotonic()], maxlen=51)
        self._loss: float | None = None

    def step(self, row: Mapping[str, float], validation: Mapping[str, float]) -> None:
        self._recent.append(time.monotonic())
        seconds = max(1e-6, self._recent[-1] - self._recent[0]) / (len(self._recent) - 1)
        self._loss = row["loss"] if self._loss is None else 0.95 * self._loss + 0.05 * row["loss"]
        shown = {"image_to_text_5": "recall@5", "negation": "negation", "laterality": "side"}
        held = ", ".join(f"{word} {validation[name]:.2f}" for name, word in shown.items() if name in validation)
        step, left = int(row["step"]), (self._steps - row["step"]) * seconds
        self._tell(
            f"step {step} of {self._steps}, loss {self._loss:.3f}{f', held-out: {held}' if held else ''}, "
            f"{self._batch / seconds:.0f} pairs/s, {left / 60:.0f} min left",
            step / self._steps,
        )


def _check_packages(extra: str) -> None:
    # Asking draws nothing, so it needs no matplotlib.
    missing = [name for name in missing_for_learning() if extra == "learn" or name != "matplotlib"]
    if missing:
        raise CapabilityError(f"aligning needs {', '.join(missing)}: pip install 'isocenter[{extra}]'")


def _load(weights: Path | str) -> Aligned:
    _check_packages("torch")
    from isocenter.models.aligned import load_aligned

    return load_aligned(weights)


def _sha256(aligned: Aligned) -> str:
    return "" if aligned.card is None else aligned.card.sha256


def _as_rows(figures: Sequence[Figure]) -> tuple[FigureRow, ...]:
    from dataclasses import asdict

    return tuple(FigureRow(**asdict(figure)) for figure in figures)
