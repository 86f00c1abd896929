"""Whether half precision is quick here: only where the processor multiplies matrices of bfloat16 (Intel AMX)."""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["half_is_quick"]


@cache
def half_is_quick() -> bool:
    """Tell whether the processor has tiles for bfloat16; False where torch can't say.

    Without them bfloat16 is emulated and slower than single precision.
    """
    capabilities = getattr(torch.cpu, "get_capabilities", None)
    return bool(capabilities is not None and capabilities().get("amx_bf16", False))
