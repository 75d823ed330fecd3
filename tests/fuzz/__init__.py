"""Inputs that strangers might send, thousands of them: each parser answers with its own errors and nothing else."""
