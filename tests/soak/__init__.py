"""A random test of whole programs that goes on for as long as asked: `python -m soak` (make soak)."""
