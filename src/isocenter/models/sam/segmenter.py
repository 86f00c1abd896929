"""A SAM behind the door of `isocenter.evaluate.interactive`: an image once, then acts.

The recipe is SAM's own for interaction: a slice is encoded once; each act is answered from all points and the box so
far, and from the logits of the answer before; of the three answers to a first single point the one with the greatest
expected IoU is taken. A volume is answered slice by slice: only slices that carry something positive are answered, each
from what was said about it; nothing is passed on from slice to slice.

Source:
    Kirillov et al., ICCV 2023, section 3 and appendix A; Ravi et al., 2024.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Shaped

from isocenter.core.errors import GeometryError, PixelError
from isocenter.models.sam.folder import SamNetwork, load_network, picture_settings
from isocenter.models.sam.preparation import Preparation, Way, preparation_for, window
from isocenter.models.sam.prompts import PlanePrompts, Pointing, spread

__all__ = ["SamInteraction", "SamSegmenter"]

KEPT_SLICES = 64
"""Encoded slices that are kept at once; a SAM 2 needs 16 MB for each. The one that was used longest ago goes first."""


class SamInteraction:
    """One image, and what was said about it so far.

    Args:
        network: What answers.
        preparation: How a slice becomes its picture.
        image: Intensities (z, y, x), finite.
    """

    def __init__(self, network: SamNetwork, preparation: Preparation, image: Float[np.ndarray, "z y x"]) -> None:
        self._network, self._preparation, self._image = network, preparation, window(image)
        self._said: dict[int, PlanePrompts] = {}
        self._before: dict[int, torch.Tensor] = {}
        self._encoded: dict[int, object] = {}
        self._answer = np.zeros(image.shape, dtype=np.float32)
        if len(image) == 1:
            self._encode(0)

    def act(self, act: Pointing) -> Float[np.ndarray, "z y x"]:
        """Return the probability of every voxel, float32, after this act and all before it.

        Raises:
            CapabilityError: An act that is no point, box, scribble or lasso.
        """
        depth, height, width = self._image.shape
        for index, said in spread(act, (depth, height, width)).items():
            self._said[index] = self._said.get(index, PlanePrompts()).then(said)
            if self._said[index].carries:
                self._answer[index] = self._plane(index)
        return self._answer.copy()

    def _encode(self, index: int) -> object:
        found = self._encoded.pop(index, None)
        if found is None:
            found = self._network.encode(self._preparation.pixels(self._image[index]))
        self._encoded[index] = found
        if len(self._encoded) > KEPT_SLICES:
            del self._encoded[next(iter(self._encoded))]
        return found

    def _plane(self, index: int) -> Float[np.ndarray, "h w"]:
        said, shape = self._said[index], (self._image.shape[1], self._image.shape[2])
        points = box = None
        if len(said.points_yx):
            places = torch.from_numpy(self._preparation.points(said.points_yx, shape)).float()
            points = places, torch.from_numpy(said.positive.astype(np.int64))
        if said.box_yx is not None:
            box = torch.from_numpy(self._preparation.box(said.box_yx, shape)).float()
        logits, self._before[index] = self._network.decode(self._encode(index), points, box, self._before.get(index))
        return np.asarray(torch.sigmoid(torch.from_numpy(self._preparation.back(logits, shape))))


class SamSegmenter:
    """SAM, MedSAM or SAM 2 from a Hugging Face folder on this machine.

    Nothing is downloaded, no pickle is opened and no code of the folder is run; see `isocenter.models.sam.folder`.

    Args:
        folder: Holds config.json and model.safetensors.
        name: For tables; the folder's name when left out.
        preparation: How slices become pictures; "auto" does what the folder says. See
            `isocenter.models.sam.preparation` for the others, and for MedSAM.
        device: As torch names it.

    Raises:
        WeightsError: The folder is not there, is not a SAM, or holds no safetensors that fit its config.
        CapabilityError: transformers is not installed, or there is no such device.
        ConfigError: No such preparation.
    """

    def __init__(
        self, folder: str | Path, *, name: str | None = None, preparation: Way = "auto", device: str = "cpu"
    ) -> None:
        place = Path(folder)
        self.network = load_network(place, device)
        self.name = place.resolve().name if name is None else name
        self.preparation = preparation_for(self.network.kind, self.network.size, picture_settings(place), preparation)

    def begin(
        self, image: Shaped[np.ndarray, "..."], spacing_mm: tuple[float, float, float] | None = None
    ) -> SamInteraction:
        """Take an image; one slice is encoded now, the slices of a volume once something is said about them.

        Args:
            image: Intensities (z, y, x), in any range.
            spacing_mm: Not used: a SAM sees pixels.

        Raises:
            GeometryError: Not three axes, or an empty one.
            PixelError: Intensities that are not finite.
        """
        if image.ndim != 3 or not image.size:
            raise GeometryError(f"an image is (z, y, x), a plane one slice of it; got {image.shape}")
        values = np.asarray(image, dtype=np.float32)
        if not np.isfinite(values).all():
            raise PixelError("the image holds voxels that are not finite; replace them first")
        return SamInteraction(self.network, self.preparation, values)
