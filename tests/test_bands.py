"""Band roles: what is given, described, coloured or assumed, and the sentence that says which."""

from pathlib import Path

import pytest

from geosam.bands import infer_roles, names_file, parse_bands
from geosam.errors import BandError

GREY = ("gray", "undefined", "undefined", "undefined")


def roles(*descriptions, hint=""):
    return infer_roles(len(descriptions), descriptions=descriptions, hint=hint).names


def test_a_spec_gives_indices_descriptions_and_files():
    assert parse_bands("red=3, Green=B3,nir=B08.tif") == {"red": 3, "green": "B3", "nir": "B08.tif"}


def test_a_comma_in_a_file_name_does_not_separate():
    assert parse_bands("red=a,b.tif,nir=c.tif") == {"red": "a,b.tif", "nir": "c.tif"}


@pytest.mark.parametrize("text", ["red", "red=", "=3", "", "red=1,,nir=2,x"])
def test_a_spec_that_is_not_role_and_value_is_refused(text):
    with pytest.raises(BandError, match="is not role=value"):
        parse_bands(text)


def test_an_unknown_role_is_refused_with_those_that_exist():
    with pytest.raises(BandError, match=r"'purple' is not known: use one of coastal, blue.*swir2"):
        parse_bands("purple=1")


def test_a_role_given_twice_is_refused():
    with pytest.raises(BandError, match="given twice"):
        parse_bands("red=1,r=2")


@pytest.mark.parametrize("value", [Path("x"), "B04.tif", "B04.JP2", "/vsicurl/x", "s3://bucket/x"])
def test_files_are_told_from_descriptions(value):
    assert names_file(value)


@pytest.mark.parametrize("value", [3, "B04", "near infrared"])
def test_descriptions_and_indices_are_no_files(value):
    assert not names_file(value)


def test_what_is_given_wins_over_what_is_described():
    names = infer_roles(2, given={"nir": 1}, descriptions=("red", "green")).names
    assert names == ("nir", "green")


def test_a_given_description_is_found_whatever_its_case():
    assert infer_roles(2, given={"nir": "b8"}, descriptions=("X", "B8")).names == ("band1", "nir")


@pytest.mark.parametrize("index", [0, 5, -1])
def test_an_index_out_of_range_is_refused_with_the_range(index):
    with pytest.raises(BandError, match=f"red={index} does not exist: use an index from 1 to 4"):
        infer_roles(4, given={"red": index})


def test_an_unknown_description_is_refused_with_those_that_exist():
    with pytest.raises(BandError, match=r"neither .* \(descriptions: 'B2', 'B3'\)"):
        infer_roles(2, given={"red": "B9"}, descriptions=("B2", "B3"))


def test_two_roles_of_one_band_are_refused():
    with pytest.raises(BandError, match="red and nir both name band 1"):
        infer_roles(4, given={"red": 1, "nir": 1})


@pytest.mark.parametrize(
    ("descriptions", "expected"),
    [
        (("B2", "B3", "B4", "B8"), ("blue", "green", "red", "nir")),
        (("b02", "b03", "b04", "b8a", "b11"), ("blue", "green", "red", "nir", "swir1")),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), ("blue", "green", "red", "nir")),
        (("SR_B2", "SR_B6", "ST_B10"), ("blue", "swir1", "thermal")),
        (("B2", "B3", "B4", "B5", "B6", "B7"), ("blue", "green", "red", "nir", "swir1", "swir2")),
        (("SR_B1", "SR_B3", "SR_B4", "SR_B7"), ("blue", "red", "nir", "swir2")),
        (("Red (665 nm)", "Band 3: Green", "NIR, 842 nm"), ("red", "green", "nir")),
        (("red", "nir", "nir08", "swir16"), ("red", "nir", "nir2", "swir1")),
        (("green", "nir08"), ("green", "nir")),
        (("Coastal aerosol", "RedEdge1", "Red edge 2"), ("coastal", "rededge1", "rededge2")),
        (("VV", "VH", "red"), ("vv", "vh", "red")),
        (("blue", "cloud score"), ("blue", "band2")),
        (("Bleu", "Vert", "Rouge", "PIR"), ("blue", "green", "red", "nir")),
        (("Infrarrojo", "Rojo", "Verde"), ("nir", "red", "green")),
        (("Blau", "Grün", "Rot", "Nahes Infrarot"), ("blue", "green", "red", "nir")),
        (("490 nm", "560 nm", "665 nm", "842 nm"), ("blue", "green", "red", "nir")),
        (("0.49 µm", "783 nm", "1.61 um"), ("blue", "band2", "swir1")),
        (("red", "green", "blue", "cloud score"), ("red", "green", "blue", "band4")),
    ],
)
def test_descriptions_tell_roles(descriptions, expected):
    assert roles(*descriptions) == expected


def test_a_landsat_7_name_tells_its_numbering():
    assert roles("B2", "B3", "B4", "B5", hint="LE07_L1.tif") == ("green", "red", "nir", "swir1")


@pytest.mark.parametrize("pattern", ["Band {}", "B{}", "band_{}"])
def test_names_that_only_count_say_nothing(pattern):
    with pytest.raises(BandError, match="roles of 6 bands"):
        roles(*(pattern.format(i) for i in range(1, 7)))


def test_no_order_is_assumed_where_descriptions_say_one_that_is_not_understood():
    with pytest.raises(BandError, match=r"not understood \('sininen', 'vihreä', 'punainen'\)"):
        roles("sininen", "vihreä", "punainen")


@pytest.mark.parametrize("texts", [("ortho_1", "ortho_2", "ortho_3"), ("gray",) * 3])
def test_descriptions_that_say_nothing_of_colours_leave_the_common_order(texts):
    assert roles(*texts) == ("red", "green", "blue")


def test_colour_interpretation_tells_roles():
    names = infer_roles(4, colours=("blue", "green", "red", "alpha"))
    assert names.names == ("blue", "green", "red", "alpha")


def test_a_fourth_band_beside_rgb_is_assumed_near_infrared_and_said():
    names = infer_roles(4, colours=("red", "green", "blue", "undefined"))
    assert names.sentence() == (
        "Bands: red=1, green=2, blue=3 (colour interpretation), "
        "nir=4 (assumed from the common 4-band layout)"
    )


def test_four_unnamed_bands_are_assumed_rgb_and_near_infrared_and_said():
    names = infer_roles(4, colours=GREY)
    assert names.names == ("red", "green", "blue", "nir")
    assert "assumed from the common 4-band layout" in names.sentence()


def test_a_layout_is_not_assumed_against_what_is_known():
    assert infer_roles(4, given={"nir": 1}).names == ("nir", "band2", "band3", "band4")


@pytest.mark.parametrize("count", [2, 5, 11])
def test_other_counts_without_names_ask_for_bands(count):
    with pytest.raises(BandError, match=f"roles of {count} bands .* --bands blue=2"):
        infer_roles(count, colours=("gray",) * count)


def test_the_rest_of_named_bands_keeps_its_index():
    names = infer_roles(5, given={"red": 3, "nir": 5})
    assert names.names == ("band1", "band2", "red", "band4", "nir")
    assert names.sentence() == "Bands: red=3, nir=5 (given), 3 more without a role"
