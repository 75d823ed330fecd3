"""The commented INI files and crontab lines that are shipped with the programs."""
