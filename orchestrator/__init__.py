"""orch: a containerised test-runner orchestrator with resource profiles."""

__version__ = "0.1.0"
