"""The folder of a model: its figures as JSON, its arrays as one npz; nothing of it is run when it is read.

The people learnt from are in it, without names: the nearest patients are shown, and what drove an answer is told
against them. So the folder is as confidential as the table.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from pydantic import ValidationError

from isocenter.core import Code, ModelRef
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.data.images.atomic import explain_os_error
from isocenter.models.covariates import Block, Covariate, Covariates
from isocenter.tasks.prognose.answer import Prognosis
from isocenter.tasks.prognose.keeping import arrays_of, trained_from
from isocenter.tasks.prognose.learners import Times, Trained
from isocenter.tasks.prognose.people import Support
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluate import check_out
from isocenter.verbs.prognosis.document import PrognosisModel

__all__ = ["ARRAYS", "MODEL", "PAGE", "check_place", "model_bytes", "open_model"]

MODEL, ARRAYS, PAGE = "model.json", "model.npz", "model.html"


def check_place(out: Path, documents: Sequence[str], *sources: Path | None, overwrite: bool) -> None:
    """Refuse a folder that is taken by what is not ours, or that holds what is read.

    Raises:
        ConfigError: It is taken, or holds a source.
    """
    for document in documents:
        check_out(out, document, overwrite=overwrite)
    place = out.resolve()
    for source in filter(None, sources):
        # Where a link stands counts as well as where it leads.
        if any(s.is_relative_to(place) for s in (source.resolve(), source.parent.resolve() / source.name)):
            raise ConfigError(f"{out} holds what is read; choose another folder")


def model_bytes(
    trained: Trained, again: tuple[Trained, ...], support: Support, people: Covariates, times: Times,
    at_days: Float[np.ndarray, " q"],
) -> bytes:  # fmt: skip
    """Return the arrays of a model as the bytes of an npz file."""
    arrays: dict[str, np.ndarray] = {f"model/{k}": v for k, v in arrays_of(trained, at_days).items()}
    for number, one in enumerate(again):
        arrays |= {f"again/{number}/{k}": v for k, v in arrays_of(one, at_days).items()}
    arrays |= {"support/known": support.known, "support/usual": support.usual}
    arrays["support/share"] = np.array([support.refused_share])
    arrays |= {f"people/{n}": c.values for n, c in enumerate(people.columns)}
    for n, b in enumerate(people.blocks):
        arrays |= {f"blocks/{n}": b.values, f"batches/{n}": np.array(b.batches, dtype=str)}
        arrays[f"names/{n}"] = np.array(b.columns, dtype=str)
    arrays |= {"times/days": times.days, "times/happened": times.happened}
    if times.codes is not None:
        arrays["times/codes"] = times.codes
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def open_model(folder: Path) -> tuple[PrognosisModel, Prognosis]:
    """Open the folder of a model.

    Raises:
        ConfigError: The folder holds none.
        WeightsError: It is damaged, or its arrays are not those that its figures were measured with.
    """
    if not (folder / MODEL).is_file() or not (folder / ARRAYS).is_file():
        raise ConfigError(f"{folder} holds no model of isocenter prognose ({MODEL} and {ARRAYS})")
    try:
        card = PrognosisModel.model_validate_json((folder / MODEL).read_bytes())
        if file_sha256(folder / ARRAYS) != card.arrays_sha256:
            raise WeightsError(f"{folder}: {ARRAYS} is not what {MODEL} was written with; learn again")
        with np.load(folder / ARRAYS, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return card, _prognosis(card, arrays)
    except OSError as error:
        raise explain_os_error(error, folder, doing="read") from error
    except (ValidationError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{folder}: the model is damaged; learn again") from error


def _prognosis(card: PrognosisModel, arrays: Mapping[str, np.ndarray]) -> Prognosis:
    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    trained = trained_from(below("model/"))
    numbers = sorted({int(k.split("/")[1]) for k in arrays if k.startswith("again/")})
    columns = tuple(Covariate(c.name, arrays[f"people/{n}"], c.unit, c.levels) for n, c in enumerate(card.columns))
    blocks = tuple(
        Block(
            b.name, tuple(arrays[f"names/{n}"].tolist()), arrays[f"blocks/{n}"],
            tuple(arrays[f"batches/{n}"].tolist()), b.components,
        )
        for n, b in enumerate(card.blocks)
    )  # fmt: skip
    support = Support(
        trained.preparation, arrays["support/known"], arrays["support/usual"], float(arrays["support/share"][0])
    )
    return Prognosis(
        trained, tuple(trained_from(below(f"again/{n}/")) for n in numbers), support, Covariates(columns, blocks),
        Times(arrays["times/days"], arrays["times/happened"], arrays.get("times/codes")), card.horizon_days,
        np.array(card.at_days), Code("event", "99ISOCENTER", card.event[:64]),
        ModelRef(f"prognosis by {card.learner}", card.isocenter, card.arrays_sha256),
    )  # fmt: skip
