"""The font of all pictures: Matplotlib's own, reduced to what they write.

A PDF holds the part of each font that it shows. To cut that out of DejaVu Sans takes a tenth of a second each time,
nearly all of it for layout tables of scripts with joined letters and for thousands of glyphs; out of a font of the
characters that are likely here, with plain kerning, a hundredth.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
from fontTools import subset
from matplotlib import font_manager

from benchmark.store.atomic import replacing, sha256

FULL = "DejaVu Sans"
REDUCED = "Benchmark Sans"
# Latin with accents, Greek, punctuation to mathematical signs, and marks. What else there is comes from the full font.
CHARACTERS = [
    character
    for first, last in ((0x20, 0x17F), (0x370, 0x3FF), (0x2000, 0x22FF), (0x25A0, 0x25FF), (0x2700, 0x27BF))
    for character in range(first, last + 1)
]


def families() -> list[str]:
    """What ``font.family`` is to be. The reduced fonts are made once, into Matplotlib's cache folder."""
    version = f"{matplotlib.__version__}-{sha256(Path(__file__))}"
    for weight in ("regular", "bold"):
        source = Path(font_manager.findfont(font_manager.FontProperties(family=FULL, weight=weight)))
        reduced = Path(matplotlib.get_cachedir()) / f"{source.stem}-{version}.ttf"
        if not reduced.exists():
            _reduce(source, reduced)
        font_manager.fontManager.addfont(reduced)
    return [REDUCED, FULL]


def _reduce(source: Path, target: Path) -> None:
    options = subset.Options(layout_features=[], legacy_kern=True, recommended_glyphs=True)
    options.drop_tables += ["FFTM", "GDEF", "GPOS", "GSUB", "MATH"]
    font = subset.load_font(source, options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=CHARACTERS)
    subsetter.subset(font)
    for name in font["name"].names:
        name.string = name.toUnicode().replace("DejaVu", "Benchmark")
    with replacing(target) as temporary:
        font.save(temporary)
