"""Prefect skins over mtgpt: a task passes batch ids and paths, never rows."""
