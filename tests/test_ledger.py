"""Blocks on disk, read back as NumPy itself reads them."""

import zipfile

import numpy as np
import pytest

from geosam.errors import OutputError
from geosam.ledger import Ledger

ARRAYS = {
    "logits": np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float32),
    "cut": np.arange(60.0).reshape(6, 10)[::2, 1:7],
    "transposed": np.arange(12, dtype=np.uint8).reshape(3, 4).T,
    "yes": np.array([True, False, True]),
    "names": np.array(["index", "learned", ""]),
    "nobody": np.array([], dtype="<U1"),
    "none": np.empty((0, 2)),
    "number": np.array(7),
}


@pytest.mark.parametrize("level", [0, 1])
def test_a_block_comes_back_as_it_was_and_is_a_file_of_numpy(tmp_path, level):
    ledger = Ledger(tmp_path, level)
    ledger.save((3, -1), ARRAYS)
    found = ledger.load((3, -1))
    with np.load(tmp_path / "3_-1.npz", allow_pickle=False) as oracle:
        assert list(found) == list(oracle) == list(ARRAYS)
        for name, values in ARRAYS.items():
            assert found[name].dtype == oracle[name].dtype == values.dtype
            np.testing.assert_array_equal(found[name], values)
            np.testing.assert_array_equal(oracle[name], values)


def test_only_the_arrays_that_are_asked_for_are_read(tmp_path):
    Ledger(tmp_path).save((0, 0), ARRAYS)
    assert set(Ledger(tmp_path).load((0, 0), ("yes", "unheard of"))) == {"yes"}


def test_what_was_read_cannot_be_written_to(tmp_path):
    Ledger(tmp_path).save((0, 0), ARRAYS)
    with pytest.raises(ValueError, match="read-only"):
        Ledger(tmp_path).load((0, 0))["number"][...] = 8


@pytest.mark.parametrize("level", [0, 1])
def test_a_block_with_a_changed_byte_is_damaged(tmp_path, level):
    ledger, path = Ledger(tmp_path, level), tmp_path / "0_0.npz"
    ledger.save((0, 0), {"logits": ARRAYS["logits"]})
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(OutputError, match="is damaged"):
        ledger.load((0, 0))


def test_what_holds_no_array_is_damaged(tmp_path):
    with zipfile.ZipFile(tmp_path / "0_0.npz", "w") as archive:
        archive.writestr("values.npy", b"something else")
    with pytest.raises(OutputError, match="no array begins"):
        Ledger(tmp_path).load((0, 0))
