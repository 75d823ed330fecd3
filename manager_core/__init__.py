"""What the plotter and the NAS agree on: plots, the talk, digests, settings, logs."""

__version__ = "0.1.0"
