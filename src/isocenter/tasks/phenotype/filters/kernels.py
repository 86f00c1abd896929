"""One-dimensional kernels: means, Laws' kernels and wavelets."""

from __future__ import annotations

from functools import lru_cache
from math import comb

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError

__all__ = ["LAWS", "laws_kernels", "wavelet_pair"]

_UNSCALED = {
    "L3": (1, 2, 1), "E3": (-1, 0, 1), "S3": (-1, 2, -1),
    "L5": (1, 4, 6, 4, 1), "E5": (-1, -2, 0, 2, 1), "S5": (-1, 0, 2, 0, -1), "W5": (-1, 2, 0, -2, 1),
    "R5": (1, -4, 6, -4, 1),
}  # fmt: skip
LAWS = {name: np.array(k, np.float64) / np.linalg.norm(k) for name, k in _UNSCALED.items()}
"""Laws' kernels of length 3 and 5, of unit length: level, edge, spot, wave, ripple."""
_MOST_MOMENTS = 10


def laws_kernels(name: str) -> tuple[Float[np.ndarray, "k"], ...]:
    """Return the kernels that a name such as "E5L5S5" puts together, for x, y and z.

    Raises:
        ConfigError: The name is not of two or three of Laws' kernels.

    Example:
        >>> [len(k) for k in laws_kernels("L5E3")]
        [5, 3]
    """
    parts = [name[i : i + 2] for i in range(0, len(name), 2)]
    if len(parts) not in (2, 3) or any(p not in LAWS for p in parts):
        raise ConfigError(f"{name!r} is not made of two or three of Laws' kernels ({', '.join(LAWS)})")
    return tuple(LAWS[p] for p in parts)


def wavelet_pair(name: str) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Return the low-pass and the high-pass decomposition kernel of an orthogonal wavelet.

    Args:
        name: "haar", "db1" to "db10" (Daubechies), or "coif1".

    Raises:
        ConfigError: There is no such wavelet.

    Source:
        Daubechies 1992, Ten lectures on wavelets.

    Example:
        >>> wavelet_pair("haar")[0].round(4).tolist()
        [0.7071, 0.7071]
    """
    if name == "coif1":
        root = np.sqrt(7)
        scaling = np.array([1 - root, 5 + root, 14 + 2 * root, 14 - 2 * root, 1 - root, -3 + root]) / (16 * np.sqrt(2))
    else:
        number = "1" if name == "haar" else name.removeprefix("db")
        if not number.isdigit() or not 1 <= int(number) <= _MOST_MOMENTS:
            raise ConfigError(f"no wavelet {name!r}; there are haar, db1 to db{_MOST_MOMENTS} and coif1")
        scaling = _daubechies(int(number))
    low = scaling[::-1]
    high = scaling * (-1.0) ** (1 + np.arange(len(scaling)))
    return low, high


@lru_cache(maxsize=_MOST_MOMENTS)
def _daubechies(moments: int) -> Float[np.ndarray, "k"]:
    """Return the scaling filter of extremal phase, by factoring its power spectrum."""
    # P(y) = sum comb(n-1+k, k) y^k with y = (2 - z - 1/z) / 4; of each pair of roots the one inside the circle is kept.
    roots = np.roots([comb(moments - 1 + k, k) for k in range(moments)][::-1]) if moments > 1 else np.array([])
    kept = []
    for y in roots:
        both = np.roots([1, -(2 - 4 * y), 1])
        kept.append(both[np.abs(both).argmin()])
    filter_ = np.real(np.poly([*([-1.0] * moments), *kept]))
    return np.asarray(filter_ * np.sqrt(2) / filter_.sum())
