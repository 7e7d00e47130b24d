"""Band roles: which band of a scene is red, near infrared, and so on, and how that is known.

Roles come from what the user says, then from band descriptions, colour interpretation and two
well-known layouts, in this order. What is assumed is said aloud.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geosam.errors import BandError

ROLES = (
    "coastal", "blue", "green", "yellow", "red", "rededge1", "rededge2", "rededge3", "nir", "nir2",
    "watervapour", "cirrus", "swir1", "swir2", "thermal", "thermal2", "pan", "alpha",
    "vv", "vh", "hh", "hv",
)  # fmt: skip
"""Every role a band can have. A band without one is called ``band5`` after its index."""

OPTICAL = frozenset(
    ("coastal", "blue", "green", "yellow", "red", "rededge1", "rededge2", "rededge3", "nir", "nir2",
     "watervapour", "cirrus", "swir1", "swir2", "pan")
)  # fmt: skip
"""Roles whose values are reflected light, which cannot be negative."""

BandSpec = Mapping[str, "int | str | os.PathLike[str]"]
"""Role -> 1-based index, band description, or file."""

_SUFFIXES = frozenset(
    (".tif", ".tiff", ".vrt", ".jp2", ".j2k", ".img", ".jpg", ".jpeg", ".png", ".nc", ".hdf", ".h5",
     ".dat", ".bil", ".bsq", ".bip", ".ntf", ".asc", ".gpkg", ".ecw", ".sid", ".zarr", ".grd")
)  # fmt: skip

_WORDS = {
    "coastal": "coastal coastalaerosol aerosol ultrablue coastalblue violet deepblue",
    "blue": "blue b bleu azul blau blu",
    "green": "green g vert verde grun gruen",
    "yellow": "yellow y",
    "red": "red r rouge rojo rot rosso vermelho",
    "rededge1": "rededge rededge1 re re1 rededge071 vegetationrededge vegetationrededge1",
    "rededge2": "rededge2 re2 rededge075 vegetationrededge2",
    "rededge3": "rededge3 re3 rededge078 vegetationrededge3",
    "nir": "nir nir1 n nearinfrared nearir infrared nirbroad pir procheinfrarouge infrarouge infrarougeproche "
    "infrarrojo infrarrojocercano infravermelho infravermelhoproximo infrarosso infrarossovicino infrarot "
    "nahesinfrarot nahinfrarot",
    "nir2": "nir2 nir08 nir8a nirnarrow narrownir nearinfrared2",
    "watervapour": "watervapour watervapor nir09",
    "cirrus": "cirrus swircirrus",
    "swir1": "swir1 swir swir16 shortwaveinfrared shortwaveinfrared1 mir",
    "swir2": "swir2 swir22 shortwaveinfrared2",
    "thermal": "thermal thermal1 tir tir1 tirs1 lwir lwir11 thermalinfrared",
    "thermal2": "thermal2 tir2 tirs2 lwir12",
    "pan": "pan panchromatic",
    "alpha": "alpha",
    "vv": "vv",
    "vh": "vh",
    "hh": "hh",
    "hv": "hv",
}
_ROLE_OF_WORD = {word: role for role, words in _WORDS.items() for word in words.split()}

# ESA Sentinel-2 User Handbook, table of spectral bands.
_SENTINEL2 = {
    "1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "rededge1", "6": "rededge2",
    "7": "rededge3", "8": "nir", "8a": "nir2", "9": "watervapour", "10": "cirrus", "11": "swir1",
    "12": "swir2",
}  # fmt: skip
# USGS, Landsat 8-9 (OLI, TIRS) and Landsat 4-7 (TM, ETM+) band designations.
_LANDSAT8 = {
    "1": "coastal", "2": "blue", "3": "green", "4": "red", "5": "nir", "6": "swir1", "7": "swir2",
    "8": "pan", "9": "cirrus", "10": "thermal", "11": "thermal2",
}  # fmt: skip
_LANDSAT7 = {
    "1": "blue", "2": "green", "3": "red", "4": "nir", "5": "swir1", "6": "thermal", "7": "swir2",
    "8": "pan",
}  # fmt: skip

_ROLE_OF_COLOUR = {
    "red": "red", "green": "green", "blue": "blue", "alpha": "alpha", "pan": "pan",
    "coastal": "coastal", "yellow": "yellow", "rededge": "rededge1", "nir": "nir", "swir": "swir1",
    "tir": "thermal", "lwir": "thermal",
}  # fmt: skip

_NANOMETRES = {
    "coastal": (420, 455), "blue": (455, 520), "green": (520, 600), "red": (625, 690), "nir": (800, 900),
    "swir1": (1550, 1750), "swir2": (2050, 2350),
}  # fmt: skip
"""What the role of a band is that is described by its wavelength alone."""
_LAYOUTS = {3: ("red", "green", "blue"), 4: ("red", "green", "blue", "nir")}


@dataclass(frozen=True)
class BandNames:
    """The role of every band of a scene, and where that knowledge comes from."""

    names: tuple[str, ...]
    """One name a band, in order: a role, or ``"band5"`` after its 1-based index."""
    reasons: tuple[str, ...]
    """One entry a band: how its role is known, such as ``"colour interpretation"``, or ``""``."""

    def sentence(self, places: Sequence[object] | None = None) -> str:
        """Say the roles in one line, as the command line prints it.

        Parameters
        ----------
        places : sequence of object or None
            What to print behind each role: file names, say. Default: the 1-based index.

        Examples
        --------
        >>> infer_roles(3, colours=("red", "green", "blue")).sentence()
        'Bands: red=1, green=2, blue=3 (colour interpretation)'
        """
        places = places or range(1, len(self.names) + 1)
        parts: list[str] = []
        named = [row for row in zip(self.names, places, self.reasons, strict=True) if row[2]]
        for i, (name, place, reason) in enumerate(named):
            last_of_group = i + 1 == len(named) or named[i + 1][2] != reason
            parts.append(f"{name}={place}" + (f" ({reason})" if last_of_group else ""))
        unnamed = len(self.names) - len(named)
        if unnamed:
            parts.append(f"{unnamed} more without a role")
        return "Bands: " + ", ".join(parts)


def parse_bands(text: str) -> dict[str, int | str]:
    """Read ``"red=3,green=2,nir=B8"`` or ``"red=B04.tif,nir=B08.tif"``.

    Parameters
    ----------
    text : str
        Comma-separated ``role=value``: a 1-based index, a band description, or a file.

    Returns
    -------
    dict of str to int or str
        Role -> index (int), or description or file (str; :func:`names_file` tells which).

    Raises
    ------
    BandError
        Unknown role, a role given twice, or an entry that is not ``role=value``.

    Examples
    --------
    >>> parse_bands("red=3, nir=B8")
    {'red': 3, 'nir': 'B8'}
    """
    bands: dict[str, int | str] = {}
    # Only a comma that starts a new "role=" separates: file names may hold commas.
    for entry in re.split(r",(?=\s*\w+\s*=)", text.strip().strip(",")):
        name, equals, value = (part.strip() for part in entry.partition("="))
        broken = "," in value and not names_file(value)
        if not equals or not name or not value or broken:
            raise BandError(
                f"Band entry {entry.strip()!r} is not role=value: "
                "use for example --bands red=3,green=2,blue=1,nir=4."
            )
        role = canonical_role(name)
        if role in bands:
            raise BandError(f"Band role {role!r} is given twice in {text!r}: give each role once.")
        bands[role] = int(value) if re.fullmatch(r"[+-]?\d+", value) else value
    return bands


def canonical_role(name: str) -> str:
    """Return the role that `name` means (``"RedEdge"`` -> ``"rededge1"``).

    Raises
    ------
    BandError
        No role has this name.
    """
    role = _ROLE_OF_WORD.get(_squeezed(name))
    if role is None:
        raise BandError(f"Band role {name!r} is not known: use one of {', '.join(ROLES)}.")
    return role


def names_file(value: object) -> bool:
    """Tell whether the value of a band entry is a file rather than an index or description."""
    if isinstance(value, os.PathLike):
        return True
    if not isinstance(value, str):
        return False
    is_uri = value.startswith("/vsi") or "://" in value
    return is_uri or Path(value).suffix.lower() in _SUFFIXES or os.path.isfile(value)


def infer_roles(
    count: int,
    *,
    given: BandSpec | None = None,
    descriptions: Sequence[str | None] = (),
    colours: Sequence[str] = (),
    hint: str = "",
) -> BandNames:
    """Find the role of each of `count` bands.

    Parameters
    ----------
    count : int
        Number of bands, an alpha band included.
    given : mapping or None
        Role -> 1-based index or band description, as the user says. Wins over all else.
    descriptions : sequence of str or None
        Band descriptions: ``"B2"``, ``"B02"``, ``"SR_B5"``, ``"nir"``, ``"Red (665 nm)"``.
    colours : sequence of str
        Names of the colour interpretations, in lower case, as rasterio gives them.
    hint : str
        File name or product id, which may tell the sensor (``"LC09_..."``).

    Returns
    -------
    BandNames

    Raises
    ------
    BandError
        A given band does not exist, two roles name one band, or no role can be inferred at all.

    Examples
    --------
    >>> infer_roles(4, colours=("red", "green", "blue", "undefined")).names
    ('red', 'green', 'blue', 'nir')
    """
    found: dict[int, tuple[str, str]] = {}
    _fill(found, _given_roles(given or {}, count, descriptions), "given")
    _fill(found, _described_roles(descriptions, hint), "band descriptions")
    _fill(found, _coloured_roles(colours), "colour interpretation")
    strange = _not_understood(descriptions, found)
    if not strange:
        _fill(found, _layout_roles(count, found), _layout_reason(count, found))
    if strange and not {name for name, _ in found.values()} - {"alpha"}:
        raise BandError(
            f"What bands are described by is not understood ({', '.join(map(repr, strange))}): give "
            "their roles, for example --bands red=1,green=2,blue=3,nir=4."
        )
    if not found:
        raise BandError(
            f"The roles of {count} bands without descriptions or colours cannot be inferred: "
            "give them, for example --bands blue=2,green=3,red=4,nir=5."
        )
    rows = [found.get(i, (f"band{i}", "")) for i in range(1, count + 1)]
    return BandNames(tuple(name for name, _ in rows), tuple(reason for _, reason in rows))


def _not_understood(
    descriptions: Sequence[str | None], found: Mapping[int, tuple[str, str]]
) -> list[str]:
    """Return descriptions that say something of a band other than which one it is, and not its role.

    Whoever wrote them had an order in mind, and nobody knows that it is the common one.
    """
    texts = {i: text.strip() for i, text in enumerate(descriptions, 1) if text and text.strip()}
    counts = {i for i, text in texts.items() if re.search(rf"(^|\D)0*{i}$", text)}
    alike = len(set(texts.values())) == 1
    return [] if alike else [t for i, t in texts.items() if i not in found and i not in counts]


def _fill(found: dict[int, tuple[str, str]], roles: Mapping[int, str], reason: str) -> None:
    """Add roles for bands that have none yet; each role once."""
    for index, role in roles.items():
        if index not in found and role not in {name for name, _ in found.values()}:
            found[index] = (role, reason)


def _given_roles(given: BandSpec, count: int, descriptions: Sequence[str | None]) -> dict[int, str]:
    roles: dict[int, str] = {}
    for name, value in given.items():
        role = canonical_role(name)
        index = value if isinstance(value, int) else _index_of(str(value), role, descriptions)
        if not 1 <= index <= count:
            raise BandError(f"Band {role}={index} does not exist: use an index from 1 to {count}.")
        if index in roles:
            raise BandError(
                f"Bands {roles[index]} and {role} both name band {index}: give each its own."
            )
        roles[index] = role
    return roles


def _index_of(text: str, role: str, descriptions: Sequence[str | None]) -> int:
    wanted = text.strip().lower()
    for index, description in enumerate(descriptions, 1):
        if description and description.strip().lower() == wanted:
            return index
    known = ", ".join(repr(text) for text in descriptions if text) or "none"
    raise BandError(
        f"Band {role}={text!r} is neither an index, nor a file, nor a band description "
        f"(descriptions: {known}): name one that exists."
    )


def _described_roles(descriptions: Sequence[str | None], hint: str) -> dict[int, str]:
    texts = {i: text for i, text in enumerate(descriptions, 1) if text and text.strip()}
    codes = {i: code for i, text in texts.items() if (code := _sensor_code(text))}
    table = _sensor_table(texts, codes, hint)
    roles = {}
    for i, text in texts.items():
        role = table.get(codes[i], "") if i in codes else _spoken_role(text)
        if role:
            roles[i] = role
    if "nir2" in roles.values() and "nir" not in roles.values():
        # The STAC name nir08 is Landsat's only near infrared, and Sentinel-2's second.
        roles = {i: "nir" if role == "nir2" else role for i, role in roles.items()}
    return roles


def _squeezed(text: str) -> str:
    """Return letters without accents, and digits."""
    plain = unicodedata.normalize("NFKD", text.lower().replace("ß", "ss"))
    return re.sub(r"[^a-z0-9]", "", plain)


def _spoken_role(text: str) -> str:
    """Return the role of a description in words, or of a wavelength, or an empty string."""
    bare = re.sub(r"\(.*?\)|\[.*?\]|\d+(\.\d+)?\s*(nm|um|µm|m)\b", " ", text.lower())
    inside = re.findall(r"[(\[](.*?)[)\]]", text)
    for candidate in (bare, *re.split(r"[:;,/|]| - ", bare), *inside):
        if role := _ROLE_OF_WORD.get(_squeezed(candidate)):
            return role
    return _role_at(text)


def _role_at(text: str) -> str:
    """Return the role of the only wavelength in a description, or an empty string."""
    found = re.findall(r"(\d+(?:\.\d+)?)\s*(nm|um|µm)\b", text.lower())
    if len(found) != 1:
        return ""
    length = float(found[0][0]) * (1 if found[0][1] == "nm" else 1000)
    return next((r for r, (low, high) in _NANOMETRES.items() if low <= length < high), "")


def _sensor_code(text: str) -> str:
    """Return ``"8a"`` for ``"B8A"``, ``"B08A"``, ``"Band 8A"`` or ``"SR_B8A"``, else ``""``."""
    match = re.fullmatch(r"(?:sr_|st_|toa_)?b(?:and)?[\s_-]*0?(\d{1,2}a?)", text.strip().lower())
    return match[1] if match else ""


def _sensor_table(
    texts: Mapping[int, str], codes: Mapping[int, str], hint: str
) -> Mapping[str, str]:
    """Choose the sensor whose numbering the codes follow; none where they only count."""
    present, words = set(codes.values()), " ".join(texts.values()).lower()
    surface = "sr_b" in words
    padded = re.search(r"b0\d", words) is not None
    if re.search(r"(?<![a-z])l[tem]0?[4-7]", hint.lower()) and not padded:
        return _LANDSAT7
    if surface:
        return _LANDSAT7 if {"1", "7"} <= present and "6" not in present else _LANDSAT8
    if re.search(r"(?<![a-z])l[co]0?[89]", hint.lower()):
        return _LANDSAT8
    # "B1, B2, B3" or "Band 1, Band 2" in file order count bands and say nothing about colours.
    if not padded and all(code == str(i) for i, code in codes.items()):
        return {}
    if padded or present & {"8a", "12"} or ("8" in present and not {"5", "6", "7"} <= present):
        return _SENTINEL2
    return _LANDSAT8


def _coloured_roles(colours: Sequence[str]) -> dict[int, str]:
    return {
        i: _ROLE_OF_COLOUR[colour]
        for i, colour in enumerate(colours, 1)
        if colour in _ROLE_OF_COLOUR
    }


def _layout_roles(count: int, found: Mapping[int, tuple[str, str]]) -> dict[int, str]:
    """Roles of the common layouts, where nothing speaks against them."""
    alphas = sum(name == "alpha" for name, _ in found.values())
    layout = dict(enumerate(_LAYOUTS.get(count - alphas, ()), 1))
    agrees = all(layout.get(i, name) == name for i, (name, _) in found.items() if name != "alpha")
    return layout if agrees else {}


def _layout_reason(count: int, found: Mapping[int, tuple[str, str]]) -> str:
    bands = count - sum(name == "alpha" for name, _ in found.values())
    return f"assumed from the common {bands}-band layout"
