"""What the plotter and the NAS agree on: plots, the talk, digests, settings, logs."""
