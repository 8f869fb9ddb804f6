"""``python -m mtgpt``, which is also how torchrun starts it."""

from mtgpt.cli.main import run

if __name__ == "__main__":
    run()
