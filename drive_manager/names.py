"""What a plot in flight on a drive is called, and what stands beside it: the plot's name with this behind it."""

PARTIAL = ".tmp"
SIDECAR = ".pieces.tmp"
