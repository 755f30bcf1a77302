"""Figures as PNG files: drawn by Matplotlib without a screen, and written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import requires_extra
from .files import write_atomically
from .libraries import import_matplotlib

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def require_plotting() -> None:
    """Raise MissingPackageError where figures cannot be drawn; to be asked before long work that ends in one."""
    with requires_extra("export", "plotting"):
        import_matplotlib()


@contextmanager
def figure_file(path: Path, size: tuple[float, float], dpi: int, software: bool = True) -> Iterator[Figure]:
    """Give an empty figure to draw on; it is written to `path` when the block ends well.

    Args:
        path: of the PNG file.
        size: width and height, in inches. dpi: pixels an inch.
        software: whether the file says which Matplotlib drew it.

    Raises:
        MissingPackageError: Matplotlib is not installed. OutputFileError: the file cannot be written.
    """
    require_plotting()
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=dpi, layout="constrained")
    yield figure
    metadata = None if software else {"Software": None}
    with write_atomically(path) as temporary:
        figure.savefig(temporary, format="png", metadata=metadata)
