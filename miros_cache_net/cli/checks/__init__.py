"""The checks of `doctor`: each returns findings, and each failure says how to fix it."""
