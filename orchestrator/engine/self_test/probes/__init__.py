"""Probes for a container's python3 (3.8 or newer). They use the standard library only: orch is not installed.

Each check observes an effect. Where the same call can succeed, it is made too, so that a broken probe is not taken
for isolation.
"""
