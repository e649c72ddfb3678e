"""The states of a run: those that it says of itself, and those that others see."""

RUNNING, COMPLETED, STOPPED, FAILED = "running", "completed", "stopped", "failed"
DEAD, SILENT, BROKEN = "dead", "silent", "broken"

WRITTEN = (RUNNING, COMPLETED, STOPPED, FAILED)
"""What ``status.json`` says."""

STATES = (*WRITTEN, DEAD, SILENT, BROKEN)
"""That, or what is seen from outside: that its process is gone, that it has not been heard of for
long, and that its files are not as they should be."""
