"""Examples as pages show them: pictures with the rows of a unit over them and truth around, texts with marked tokens.

Blue is what a unit says, the stronger the larger its value beside the threshold; orange is where the concept is.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from unicodedata import bidirectional

from markupsafe import Markup

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

HUE, TRUE = (0, 114, 178), (230, 159, 0)  # of what a unit says, and of where a concept is: Okabe and Ito's
AT_THRESHOLD, MOST = 0.35, 0.75  # alpha there, and from three times the threshold on
ON_PICTURES = 0.4  # share of that over pictures, whose colours may be what the concept is
VEIL, VEILED = (96, 160), 0.6  # greys of the stripes over what the model does not see, and how much of them
STRIPES = 80  # that the shorter side of a picture has room for
AROUND = 20  # tokens on either side of the largest value
QUALITY = 75


def opacity(values: "np.ndarray", threshold: float) -> "np.ndarray":
    """Return 0 at 0, .35 at the threshold, .75 from three times the threshold on."""
    import numpy as np

    return np.interp(values / threshold, (0, 1, 3), (0, AT_THRESHOLD, MOST))


def picture_opacity(values: "np.ndarray", threshold: float) -> "np.ndarray":
    """Return the same over a picture, through which its colours are seen."""
    return ON_PICTURES * opacity(values, threshold)


def veiled(pixels: "np.ndarray", unseen: "np.ndarray") -> "np.ndarray":
    """Return a picture, float [height, width, 3], with grey stripes over what the model does not see, bool [height,
    width].

    Of two greys, one of which is seen on any picture.
    """
    import numpy as np

    height, width = unseen.shape
    stripe = max(2, min(height, width) // STRIPES)
    rows, columns = np.ogrid[:height, :width]
    greys = np.where((rows + columns) // stripe % 2 == 0, *VEIL)[..., None].astype(np.float32)
    return np.where(unseen[..., None], pixels * (1 - VEILED) + greys * VEILED, pixels)


def overlaid(
    image: "Image",
    widest: int,
    edges: "Mapping[str, np.ndarray] | None" = None,
    values: "np.ndarray | None" = None,
    threshold: float = 1.0,
    truth: "np.ndarray | None" = None,
) -> "Image":
    """Return a picture, at most ``widest`` pixels on either side, with patches over it and truth around.

    Args:
        edges: ``left``, ``top``, ``right``, ``bottom`` of each patch in pixels of ``image``; what lies outside of all
            of them is veiled, for the model does not see it. None draws none.
        values: float [n_patches]; patches from ``threshold`` on have a line around them.
        truth: bool [height, width] of ``image``.
    """
    import numpy as np
    from PIL import Image as Images

    small = image.convert("RGB")
    small.thumbnail((widest, widest))
    pixels = np.asarray(small).astype(np.float32)
    height, width = pixels.shape[:2]
    if edges is not None and values is not None:
        across, down = width / image.width, height / image.height
        unseen = np.ones((height, width), bool)
        if len(values):
            left, right = _extent(edges, ("left", "right"), across)
            top, bottom = _extent(edges, ("top", "bottom"), down)
            unseen[max(top, 0) : bottom, max(left, 0) : right] = False
        pixels = veiled(pixels, unseen)
        field = np.zeros((height, width), np.float32)
        for number in np.flatnonzero(values):
            left, right = (round(float(edges[name][number]) * across) for name in ("left", "right"))
            top, bottom = (round(float(edges[name][number]) * down) for name in ("top", "bottom"))
            field[max(top, 0) : bottom, max(left, 0) : right] = values[number]
        alpha = picture_opacity(field, threshold)[..., None]
        pixels = pixels * (1 - alpha) + np.array(HUE, np.float32) * alpha
        strong = field >= threshold
        line = strong & ~_shrunk(strong)
        pixels[_grown(line) & ~strong] = 255
        pixels[line] = HUE
    if truth is not None and truth.any():
        plane = Images.fromarray(truth.astype(np.uint8) * 255).resize((width, height), Images.Resampling.BILINEAR)
        inside = np.asarray(plane) > 127
        line = inside & ~_shrunk(_shrunk(inside))
        casing = _grown(line) & ~line
        pixels[casing] = pixels[casing] * 0.35
        pixels[line] = TRUE
    return Images.fromarray(np.round(pixels).astype(np.uint8))


def _extent(edges: "Mapping[str, np.ndarray]", names: tuple[str, str], scale: float) -> tuple[int, int]:
    """From where to where patches reach, in pixels of the smaller picture."""
    first, last = names
    return round(float(edges[first].min()) * scale), round(float(edges[last].max()) * scale)


def _grown(area: "np.ndarray") -> "np.ndarray":
    """Return an area, bool [height, width], with every pixel beside it."""
    import numpy as np

    padded = np.pad(area, 1)
    return padded[1:-1, 1:-1] | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _shrunk(area: "np.ndarray") -> "np.ndarray":
    """Return an area without the pixels that touch its outside; the edge of the picture is none."""
    import numpy as np

    padded = np.pad(area, 1, mode="edge")
    return padded[1:-1, 1:-1] & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]


def image_element(image: "Image", text: str, quality: int = QUALITY) -> Markup:
    """Return the picture inside the page, WebP, with a text for those who do not see it."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality)
    data = base64.b64encode(buffer.getvalue()).decode()
    html = Markup('<img loading="lazy" width="{}" height="{}" alt="{}" src="data:image/webp;base64,{}">')
    return html.format(image.width, image.height, text, data)


def marked_tokens(
    text: str,
    spans: Sequence[tuple[int, int]],
    values: "np.ndarray",
    threshold: float,
    truth: "np.ndarray | None" = None,
    around: int | None = AROUND,
    peak: int | None = None,
) -> Markup:
    """Return a text with its tokens marked: blue behind them by value, a line under those that are the concept's.

    Args:
        spans: characters [start, end) of each token; values: float [n_tokens]; truth: bool [n_tokens].
        around: tokens shown on either side of ``peak``; None is all.
        peak: default: the token of the largest value; without one the first that is true.
    """
    import numpy as np

    n = len(spans)
    if peak is None:
        peak = int(values.argmax()) if values.any() else int(truth.argmax()) if truth is not None and truth.any() else 0
    first, stop = (0, n) if around is None else (max(0, peak - around), min(n, peak + around + 1))
    alphas = opacity(np.asarray(values), threshold)
    end = spans[first][0] if first and n else 0
    parts = [Markup("<span class=more>…</span>") if end else Markup("")]
    for number in range(first, stop):
        start = max(spans[number][0], end)  # tokens of one character may share it
        piece = text[start : max(spans[number][1], start)]
        parts.append(Markup.escape(text[end:start]))
        end = max(end, spans[number][1])
        true = truth is not None and bool(truth[number])
        if not alphas[number] and not true:
            parts.append(Markup.escape(piece))
            continue
        shown = piece if piece.strip() else piece.replace(" ", "␣").replace("\n", "⏎\n") or "⟨⟩"
        kind = " ".join(name for name, on in (("says", alphas[number] > 0), ("true", true)) if on)
        mark = Markup('<span class="{}" style="--a:{:.2f}" title="{:.4g}">{}</span>')
        parts.append(mark.format(kind, float(alphas[number]), float(values[number]), shown))
    rest = text[end:] if stop == n else ""
    parts.append(Markup("<span class=more>…</span>") if stop < n else Markup.escape(rest))
    return Markup('<bdi class="text" dir="{}">{}</bdi>').format(direction(text), Markup("").join(parts))


def direction(text: str) -> str:
    """``ltr`` or ``rtl`` by the first letter that has one, as browsers tell, who see only the part that is shown."""
    kinds = (bidirectional(character) for character in text)
    return next(("ltr" if kind == "L" else "rtl" for kind in kinds if kind in ("L", "R", "AL")), "auto")
