"""Runs the requested probes, in an order in which none affects another."""

from __future__ import annotations

from typing import Any, Callable

from orchestrator.engine.self_test.probes import calls, files, limits
from orchestrator.engine.self_test.probes.common import print_said, say
from orchestrator.engine.self_test.probes.together import Markers, side_by_side


def main(expected: dict[str, Any]) -> None:
    """Run the probes with the settings that `engine.self_test.expectations` makes."""
    probes: dict[str, Callable[[], None]] = {
        "descriptors": lambda: files.descriptors(expected),
        "processes": files.processes,
        "process_limits": lambda: files.process_limits(expected),
        "identity": lambda: files.identity(expected),
        "places": lambda: files.places(expected),
        "closed": files.closed,
        "devices": files.devices,
        "environment": lambda: files.environment(expected),
        "cgroups": files.cgroups,
        "container": lambda: files.is_container(expected),
        "privileges": calls.privileges,
        "network": lambda: calls.network(expected),
        "refused": calls.refused,
        "works": calls.works,
        "tmpfs": lambda: limits.tmpfs(expected),
        "tasks": lambda: limits.tasks(expected),
        "memory": lambda: limits.memory(expected),
        "quota": lambda: limits.quota(expected),
    }

    def run(name: str) -> None:
        try:
            probes[name]()
        except Exception as error:  # noqa: BLE001 - a probe that breaks proves nothing, and the others still can
            say(expected["groups"][name], "the probe `%s`" % name, False, "%s: %s" % (type(error).__name__, error))
        print_said()  # only now, so that a probe that is killed reports nothing, and its group is not proven

    if "descriptors" in expected["probes"]:
        run("descriptors")  # before any other probe opens files
    markers = Markers(expected["name"], expected["key"])
    try:
        markers.make()
    except OSError as error:
        say(14, "its own marks can be left", False, str(error))
        expected["look_at"] = 0
    if expected["look_at"]:
        side_by_side(expected, markers)
        markers.remove()
    print_said()
    for name in expected["probes"]:
        if name != "descriptors":
            run(name)
