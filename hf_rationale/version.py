"""The version of the package. It has its own module, because other modules need it as well as the package."""

__version__ = "0.1.0"
