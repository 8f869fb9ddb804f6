"""Where things lie and how this process behaves; the only reader of the environment.

Every setting has an environment variable ``MTGPT_<NAME>``. Call :func:`settings` at the edge (command line, flow,
notebook) and pass what is needed down; nothing below reads the environment again.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

_PACKAGE = Path(__file__).resolve().parent
_ROOT = _PACKAGE.parent


def _files(name: str, in_tree: str) -> Path:
    # A checkout has the folder at its top level; an installed wheel carries a copy inside the package.
    tree = _ROOT / in_tree
    return tree if tree.is_dir() else _PACKAGE / "_files" / name


class Settings(BaseSettings):
    """All settings, with their defaults."""

    model_config = SettingsConfigDict(env_prefix="MTGPT_", frozen=True, extra="ignore")

    home: Path = Field(default=Path(".mtgpt"), description="Lake, panels, models and runs of this workspace.")
    contracts: Path = Field(default_factory=lambda: _files("data_contracts", "data_contracts"))
    cities: Path = Field(default_factory=lambda: _files("cities", "flows/cities"), description="City manifests.")
    real_data: Path = Field(
        default=Path("../shared/data"), description="Published data sets, for tests and benchmarks."
    )
    threads: int | None = Field(
        default=None, ge=1, description="CPU threads for training and forecasts (default: all)."
    )
    chronos: Path | None = Field(default=None, description="Folder with weights of Chronos, to be compared with.")
    timesfm: Path | None = Field(default=None, description="Folder with weights of TimesFM, to be compared with.")
    salt: SecretStr = Field(
        default=SecretStr("mtgpt-open-data"),
        description="Salt of trip keys. Set a secret of your own before ingesting trips that are not public.",
    )

    @property
    def lake(self) -> Path:
        """Root of the lake: bronze objects and Delta tables."""
        return self.home / "lake"

    @property
    def panels(self) -> Path:
        """Root of the panels, one folder per city."""
        return self.home / "panels"

    @property
    def models(self) -> Path:
        """Root of trained models, one folder per run."""
        return self.home / "models"


def settings() -> Settings:
    """Reads the environment now."""
    return Settings()


def share_cores() -> None:
    """Lets threads that wait sleep instead of spin; must run before torch is imported.

    Measured on two cores with other work on them: a training step of two spinning threads took 250 to 2,900 ms, of two
    sleeping ones 80 ms (and 75 ms on an idle machine either way). What the person has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def secret(name: str) -> SecretStr | None:
    """Reads one secret that a city manifest refers to as ``${ENV:name}``; None where it is unset or empty."""
    value = os.environ.get(name)
    return SecretStr(value) if value else None
