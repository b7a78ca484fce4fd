"""The version, in one place: read by the build, by `ddjax.__version__` and by every artifact."""

__version__ = "0.1.0"
