"""The plotter side: finds complete plots, sends them to a NAS, deletes the local copy once the NAS holds it."""
