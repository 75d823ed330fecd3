"""The ways to reach people, one module each; each imports what it needs when it is used."""
