"""The settings that isolate a container, and the comparison of these settings with what is in effect."""
