"""What is said when a training needs more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isocenter.core.errors import TrainingError

__all__ = ["in_memory"]


@contextmanager
def in_memory(*, batch: int, further: str = "") -> Iterator[None]:
    """Turn what torch raises when memory runs out into the setting that would fit.

    Args:
        batch: Samples that are in memory at a time.
        further: Other settings that need less, for the message.

    Raises:
        TrainingError: Memory ran out.

    Example:
        >>> with in_memory(batch=8):
        ...     raise MemoryError
        Traceback (most recent call last):
        isocenter.core.errors.TrainingError: memory ran out with a batch of 8; a batch of 4 needs about half
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch says so in words alone on the CPU; its OutOfMemoryError is a RuntimeError too.
        if not isinstance(error, MemoryError) and not any(
            w in str(error) for w in ("allocate memory", "out of memory")
        ):
            raise
        less = f"a batch of {batch // 2} needs about half" if batch > 1 else "a batch of one is the least"
        raise TrainingError(f"memory ran out with a batch of {batch}; {less}{further}") from error
