"""Pictures and texts with a unit's values on them, as notebooks show them."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from sae_assets.pages.pictures import HUE, opacity, picture_opacity, veiled

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclass(frozen=True)
class Token:
    """A token of a text: characters [start, end), what stands there, and the unit's value (0: it does not fire)."""

    text: str
    start: int
    end: int
    value: float


@dataclass(frozen=True)
class HeatMap:
    """A unit's values on a picture.

    Attributes:
        image: the picture as shown; edges: ``left``, ``top``, ``right``, ``bottom`` of each patch in its pixels.
        values: float32 [n_patches]; threshold: from where on the unit says its concept.
    """

    image: "Image"
    edges: "Mapping[str, np.ndarray]"
    values: "np.ndarray"
    threshold: float

    def __repr__(self) -> str:
        largest = float(self.values.max()) if len(self.values) else 0
        return f"HeatMap({len(self.values)} patches, largest value {largest:.4g}, threshold {self.threshold:.4g})"

    def to_numpy(self) -> "np.ndarray":
        """Return float32 [height, width]: the value at every pixel; NaN where the model does not look."""
        import numpy as np

        pixels = np.full((self.image.height, self.image.width), np.nan, np.float32)
        for number, value in enumerate(self.values):
            left, top, right, bottom = (round(float(self.edges[name][number])) for name in self.edges)
            pixels[top:bottom, left:right] = value
        return pixels

    def overlay(self) -> "Image":
        """Return the picture with the values over it: one hue, the stronger the surer; nothing where the unit is
        silent.

        What the model does not see is veiled.
        """
        import numpy as np
        from PIL import Image

        values = self.to_numpy()
        pixels = veiled(np.asarray(self.image.convert("RGB"), np.float32), np.isnan(values))
        alpha = picture_opacity(np.nan_to_num(values), self.threshold)[..., None]
        return Image.fromarray(np.round(pixels * (1 - alpha) + np.array(HUE) * alpha).astype(np.uint8))

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.overlay().save(buffer, "PNG")
        return buffer.getvalue()


@dataclass(frozen=True)
class MarkedText:
    """A unit's values on the tokens of a text."""

    text: str
    tokens: tuple[Token, ...]
    threshold: float

    def __iter__(self) -> Iterator[Token]:
        return iter(self.tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        """Return the text with tokens from the threshold on in ⟦…⟧."""
        marked, end = [], 0
        for token in self.tokens:
            start = max(token.start, end)  # tokens of one character may share it
            piece = self.text[start : max(token.end, start)]
            marked += [self.text[end:start], f"⟦{piece}⟧" if piece and token.value >= self.threshold else piece]
            end = max(end, token.end)
        return "".join([*marked, self.text[end:]])

    def _repr_html_(self) -> str:
        import numpy as np

        marked, end = [], 0
        for token in self.tokens:
            start = max(token.start, end)
            piece = escape(self.text[start : max(token.end, start)])
            alpha = float(opacity(np.array(token.value), self.threshold))
            colour = f"background:rgba({HUE[0]},{HUE[1]},{HUE[2]},{alpha:.2f})"
            style = f'<span style="{colour}" title="{token.value:.4g}">{piece}</span>' if alpha and piece else piece
            marked += [escape(self.text[end:start]), style]
            end = max(end, token.end)
        marked.append(escape(self.text[end:]))
        return f'<div dir="auto" style="line-height:1.8;white-space:pre-wrap">{"".join(marked)}</div>'
