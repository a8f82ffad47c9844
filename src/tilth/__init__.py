"""Tilth: a workbench for deep learning whose data is the problem."""

__version__ = "0.1.0"
