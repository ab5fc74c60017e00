"""Programs for a container's python3 (3.8 or newer), which has nothing of orch: standard library only.

Each check observes an effect. Where the same call can succeed, it is made too, so that a broken probe cannot look
like safety.
"""
