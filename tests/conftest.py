"""What tests of several modules leave out because tests of its own look at it."""

import pytest


@pytest.fixture
def undrawn_curves(monkeypatch):
    """Trainings write an empty file in place of the picture they draw after every epoch.

    On networks as tiny as those of the tests the picture takes more than half of the time;
    ``test_recipe.py`` draws one.
    """
    monkeypatch.setattr("geosam.training.fit.draw_history", lambda path, rows: path.touch())
