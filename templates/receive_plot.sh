#!/bin/sh
# Receives plots on this NAS. A plotter's key may run this and nothing else.
# Written by drive_manager on {{ written_at }}.
# Do not edit it, its next run replaces it: change the config, or use `drive_manager offline MOUNT`.
#
{% if active %}
# Active {{ "drive" if active | length == 1 else "drives" }}:
{% for mount in active %}
#   {{ mount }}
{% endfor %}
{% else %}
# No active drive: {{ refuse or trouble }}
{% endif %}
{% if why %}
# Why: {{ why }}
{% endif %}
{% if spares %}
# Spares, used when those above are full or being written:
{% for mount in spares %}
#   {{ mount }}
{% endfor %}
{% endif %}

exec {{ command }} \
    --config {{ config }} \
    receive{% for argument in arguments %} \
    {{ argument }}{% endfor %}

