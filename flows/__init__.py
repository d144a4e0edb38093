"""Prefect flows: they show, retry and schedule what DVC and the CLI verbs do. No business logic lives here."""
