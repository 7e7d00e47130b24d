"""The models known by name and the families they belong to: licence, source, and what each needs."""

from __future__ import annotations

from dataclasses import dataclass

APACHE = "Apache-2.0"


@dataclass(frozen=True)
class Family:
    """An architecture, or a layout of files, and what geosam makes of it."""

    name: str
    """What people call it."""
    model_types: tuple[str, ...]
    """The ``model_type`` of its config.json; none for a layout without one."""
    takes: str
    """What ``--model`` takes of it."""
    size_px: int
    """Rows and columns of the input of its published weights."""
    sizes: str
    """What other sizes it takes."""
    needs: str
    """What must be installed besides geosam; empty where nothing."""
    licence: str
    """SPDX identifier of the licence of its published weights."""
    source: str
    """Who published them, and where."""
    loads: bool = True
    """Whether geosam loads it."""


@dataclass(frozen=True)
class KnownModel:
    """A model that geosam can load by name."""

    name: str
    """What ``--model`` takes."""
    family: str
    """Name of its :class:`Family`."""
    parameters_m: float
    """Number of weights in millions."""
    download_mb: int
    """Size of its weights; 0 where they ship with geosam."""
    licence: str
    """SPDX identifier of the licence of the weights."""
    source: str
    """Where the weights come from."""
    note: str = ""
    """What it is good for, or what it asks."""


_FOLDER = "folder or Hugging Face id"
_META_SAM = "Meta AI, Segment Anything (2023), https://huggingface.co/"
_META_SAM2 = "Meta AI, SAM 2.1 (2024), https://huggingface.co/"
_ETH_HQ = "ETH Zurich and HKUST, SAM-HQ (2023), https://huggingface.co/"
_META_SAM3 = "Meta AI, SAM 3 (2025), https://huggingface.co/"

FAMILIES = (
    Family("SAM", ("sam",), _FOLDER, 1024, "its own only", "", APACHE, f"{_META_SAM}facebook"),
    Family(
        "SAM, original files",
        (),
        "a .pth file",
        1024,
        "its own only",
        "",
        APACHE,
        "Meta AI, https://github.com/facebookresearch/segment-anything#model-checkpoints",
    ),
    Family(
        "SAM-HQ",
        ("sam_hq",),
        _FOLDER,
        1024,
        "its own only",
        "",
        APACHE,
        f"{_ETH_HQ}syscv-community",
    ),
    Family(
        "SAM 2, 2.1",
        ("sam2", "sam2_video"),
        _FOLDER,
        1024,
        "multiples of 32",
        "",
        APACHE,
        f"{_META_SAM2}facebook",
    ),
    Family(
        "SAM 3, tracker",
        ("sam3_tracker", "sam3_tracker_video", "sam3_video"),
        _FOLDER,
        1008,
        "multiples of 14",
        "its licence agreed to, and hf auth login, to download",
        "LicenseRef-SAM",
        f"{_META_SAM3}facebook/sam3",
    ),
    Family(
        "EdgeTAM",
        ("edgetam", "edgetam_video"),
        "nothing",
        1024,
        "none",
        "timm, which geosam does not use",
        APACHE,
        "Meta AI, EdgeTAM (2025), https://huggingface.co/yonigozlan/EdgeTAM-hf",
        loads=False,
    ),
)
"""Every family of Segment Anything that transformers has."""


def family_of(model_type: str | None) -> Family | None:
    """Return the family that has a ``model_type``, None where none has."""
    return next((family for family in FAMILIES if model_type in family.model_types), None)


# Parameters are counted from the configurations, for SAM 2.1 taken from the table of its repository;
# downloads are four bytes a weight.
KNOWN = (
    KnownModel(
        "river-tiny",
        "SAM 2, 2.1",
        0.0,
        0,
        APACHE,
        "trained by the geosam developers; ships with geosam",
        "the default; made for water, quick on a CPU",
    ),
    *(
        KnownModel(name, family, parameters_m, download_mb, APACHE, source + name)
        for family, source, models in (
            (
                "SAM",
                _META_SAM,
                (
                    ("facebook/sam-vit-base", 93.7, 375),
                    ("facebook/sam-vit-large", 312.3, 1249),
                    ("facebook/sam-vit-huge", 641.1, 2564),
                ),
            ),
            (
                "SAM-HQ",
                _ETH_HQ,
                (
                    ("syscv-community/sam-hq-vit-base", 94.8, 379),
                    ("syscv-community/sam-hq-vit-large", 313.7, 1255),
                    ("syscv-community/sam-hq-vit-huge", 642.7, 2571),
                ),
            ),
            (
                "SAM 2, 2.1",
                _META_SAM2,
                (
                    ("facebook/sam2.1-hiera-tiny", 38.9, 156),
                    ("facebook/sam2.1-hiera-small", 46.0, 184),
                    ("facebook/sam2.1-hiera-base-plus", 80.8, 324),
                    ("facebook/sam2.1-hiera-large", 224.4, 898),
                ),
            ),
        )
        for name, parameters_m, download_mb in models
    ),
    KnownModel(
        "facebook/sam3",
        "SAM 3, tracker",
        859.9,
        3440,
        "LicenseRef-SAM",
        f"{_META_SAM3}facebook/sam3",
        "458.3 M of its weights are used; its licence must be agreed to before the download",
    ),
)
"""What ``geosam models`` lists. Every other checkpoint of a family that geosam loads will do as well."""
