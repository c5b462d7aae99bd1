"""How every figure looks: colour-blind-safe colours, one ink, readable sizes; and how it is saved.

All text and lines that are not data are drawn in one colour, `INK`. `svg_text` turns that colour
into ``currentColor``, and the colours of the roles into variables of the page's style sheet, so
that an inlined figure follows the page in light and in dark mode.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from smoothdistill.errors import SmoothDistillError
from smoothdistill.training.checkpoint import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "GRID",
    "INK",
    "PART_COLOURS",
    "ROLE_COLOURS",
    "SHARE_COLOUR",
    "figure_style",
    "legend",
    "legend_above",
    "new_figure",
    "save_png",
    "shorten",
    "svg_text",
    "tidy",
]

INK = "#1d232b"
GRID = "#8a94a3"
# Okabe and Ito's palette: told apart with any of the common colour deficiencies.
ROLE_COLOURS = {"student": "#0072b2", "teacher": "#d55e00"}
PART_COLOURS = {"cross_entropy": "#009e73", "distillation": "#cc79a7"}
SHARE_COLOUR = "#08529c"  # the hue of heat maps; its opacity is the share
_PAGE_COLOURS = {**ROLE_COLOURS, "share": SHARE_COLOUR}  # the page may brighten these
PNG_DOTS_PER_INCH = 150

_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 10.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "text.parse_math": False,  # a "$" in a class name is a dollar sign
    "svg.fonttype": "path",  # the page needs no font of the reader's machine
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Draw and save inside this context.

    Raises:
        SmoothDistillError: If matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise SmoothDistillError(
            "`matplotlib` must be installed to draw figures, but is missing instead; "
            '`pip install "smoothdistill[plot]"` adds it.'
        ) from error
    with warnings.catch_warnings():
        # A name in a script that the bundled font lacks shows boxes; that is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        with rc_context(_STYLE):  # type: ignore[arg-type]
            yield


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure with its own Agg canvas, unknown to pyplot."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_inches, height_inches), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, *, grid: str = "y") -> None:
    """Drop the top and right spines and lay a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid in ("x", "y", "both"):
        axes.grid(True, axis=grid)  # type: ignore[arg-type]


def save_png(figure: Figure, path: Path) -> None:
    """Write the figure on white, at 150 dots per inch, and keep the layout that this gave it."""
    # The canvas is asked directly: `savefig` draws every figure twice.
    figure.set_dpi(PNG_DOTS_PER_INCH)
    figure.patch.set_facecolor("white")
    canvas: Any = figure.canvas
    write_atomically(
        path, lambda partial: canvas.print_png(partial, metadata={"Software": "smoothdistill"})
    )
    figure.set_layout_engine("none")


def svg_text(figure: Figure, *, name: str) -> str:
    """The figure as an ``<svg>`` element to inline in a page, on a transparent ground.

    Args:
        figure: A finished figure.
        name: Unique on the page; keeps the element ids of different figures apart.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.patch.set_alpha(0.0)
    for axes in figure.axes:
        axes.patch.set_alpha(0.0)
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        canvas: Any = FigureCanvasSVG(figure)
        canvas.print_svg(buffer, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    for name_on_page, colour in _PAGE_COLOURS.items():
        text = text.replace(colour, f"var(--{name_on_page}, {colour})")
    # The plain reading of each text stands in a comment beside its outline; names need no second
    # copy on the page, and the metadata block names web addresses.
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # An inlined element needs no name space of its own: the HTML parser knows svg and xlink.
    text = re.sub(r'\s+xmlns(:xlink)?="[^"]*"', "", text)
    return text.strip()


def legend(axes: Axes, **options: Any) -> None:
    """Add a legend when there is something to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**options)


def legend_above(axes: Axes) -> None:
    """Add a legend above the panel, right of its title, where no curve runs through it."""
    legend(
        axes,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        borderpad=0.2,
        handlelength=1.2,
        columnspacing=1.2,
    )


def shorten(name: str, limit: int = 18) -> str:
    """At most `limit` characters of a name, the last an ellipsis when cut."""
    return name if len(name) <= limit else name[: limit - 1] + "…"
