"""The local stack: Prefect, MLflow, the local AWS and the served flows, as detached processes.

Knows how to start, watch and stop processes; knows nothing of what they compute. Imports neither Prefect nor MLflow.
"""

from captioner.stack.control import ServiceStatus, StackStatus, down, status, up
from captioner.stack.launch import ensure_up, run_flow, run_module, schedule

__all__ = ["ServiceStatus", "StackStatus", "down", "ensure_up", "run_flow", "run_module", "schedule", "status", "up"]
