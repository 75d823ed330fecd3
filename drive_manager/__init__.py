"""The NAS side: looks at the drives each minute, picks the active ones, receives plots."""
