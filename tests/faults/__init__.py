"""The fault table: what a farm meets, done to real parts; after each fault the promises hold."""
