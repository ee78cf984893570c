"""Hypothesis on a shared, noisy machine: no deadlines, no complaints about slow generation."""

from hypothesis import HealthCheck, settings

settings.register_profile("shared-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared-machine")
