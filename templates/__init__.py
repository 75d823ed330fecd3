"""The Jinja2 templates: the receive script and, later, messages and pages."""
