"""The version, which cards, manifests and the command line name."""

__version__ = "0.1.0"
