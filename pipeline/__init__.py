"""The graph of the steps, where it runs, and the command line around it."""

__version__ = "0.1.0"
