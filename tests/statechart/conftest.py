"""The fixtures of the charts' tests, for the tests of what charts are made of."""

from tests.charts.conftest import no_thread_is_left_behind, recorder, stopping

__all__ = ["no_thread_is_left_behind", "recorder", "stopping"]
