"""The command line's surface as text; ``python -m tests.cli_surface`` writes it anew after a wanted change."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from mtgpt.cli.main import app

FILE = Path(__file__).with_name("cli_surface.txt")


def surface() -> str:
    """One line per command: its path, then its arguments and options in the order of their names."""
    lines: list[str] = []

    def walk(command, path):
        parameters = sorted(
            " ".join(p.opts) if p.param_type_name == "option" else p.name.upper() for p in command.params
        )
        lines.append(" ".join([path, *(f"[{p}]" for p in parameters)]))
        for name, child in sorted(getattr(command, "commands", {}).items()):
            walk(child, f"{path} {name}")

    walk(get_command(app), "mtgpt")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    FILE.write_text(surface(), "utf-8")
