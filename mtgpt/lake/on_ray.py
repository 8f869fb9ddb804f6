"""Cities as Ray tasks: one process each, on this machine unless the caller connected Ray to another."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtgpt.errors import LakeError, MTGPTError, UsageError
from mtgpt.lake.cities import CityOutcome, died, ingest_one
from mtgpt.settings import settings as read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mtgpt.ingest.manifest import CityManifest
    from mtgpt.settings import Settings

_LOOK_S = 0.2
_LEAST_CPUS = 2


def ingest_on_ray(
    manifests: Sequence[CityManifest],
    *,
    settings: Settings,
    only: Sequence[str] | None,
    progress: Callable[[str], None],
) -> list[CityOutcome]:
    """Ingests each city in a Ray task of its own.

    Secrets do not travel: a task reads the salt and the feeds' keys from its own environment, which on this machine is
    that of the caller. A task whose process died is run again, which is harmless: every batch lands once.

    Args:
        manifests: The cities.
        settings: Paths that all tasks must see under the same names.
        only: Ids of the sources.
        progress: Called with what is going on.

    Raises:
        UsageError: Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            "Ray is not installed", where="--engine", got="ray", next_step="install it: pip install 'mtgpt[ray]'"
        )
    import ray  # noqa: PLC0415 - an extra
    import ray.exceptions  # noqa: PLC0415

    with _cluster(len(manifests), progress):
        # Ray makes classes and functions into something else, which its types do not say.
        actor: Any = ray.remote(num_cpus=0)(_Ear)
        task: Any = ray.remote(num_cpus=1, max_retries=2)(_ingest)
        ear = actor.remote()
        paths = {name: str(getattr(settings, name).absolute()) for name in ("home", "contracts", "cities", "real_data")}
        salt = _digest(settings)
        running = {task.remote(one, paths | {"threads": settings.threads}, salt, only, ear): one for one in manifests}
        outcomes: dict[str, CityOutcome] = {}
        left = list(running)
        while left:
            done, left = ray.wait(left, timeout=_LOOK_S)
            for text in ray.get(ear.take.remote()):
                progress(text)
            for ref in done:
                manifest = running[ref]
                try:
                    outcomes[manifest.city] = ray.get(ref)
                except ray.exceptions.RayError as error:
                    outcomes[manifest.city] = died(manifest, type(error).__name__)
                progress(f"{manifest.city}: done, {len(left)} to go")
        return [outcomes[one.city] for one in manifests]


def _ingest(manifest: CityManifest, paths: dict[str, Any], salt: str, only: Any, ear: Any) -> CityOutcome:
    here = read_settings().model_copy(
        update={name: type(getattr(read_settings(), name))(path) if path else None for name, path in paths.items()}
    )
    say = lambda text: ear.say.remote(f"{manifest.city}: {text}")  # noqa: E731
    try:
        if _digest(here) != salt:
            raise LakeError(
                "the task has another salt of trip keys than its caller",
                where=manifest.city,
                next_step="set MTGPT_SALT to the same value on every machine of the Ray cluster",
            )
        return ingest_one(manifest, settings=here, only=only, progress=say)
    except MTGPTError as error:
        return CityOutcome(city=manifest.city, name=manifest.name, fault=error)


class _Ear:
    """Hears what the tasks say."""

    def __init__(self) -> None:
        self._said: list[str] = []

    def say(self, text: str) -> None:
        self._said.append(text)

    def take(self) -> list[str]:
        said, self._said = self._said, []
        return said


@contextmanager
def _cluster(cities: int, progress: Callable[[str], None]) -> Iterator[None]:
    import ray  # noqa: PLC0415

    if ray.is_initialized():
        yield
        return
    progress("starting Ray")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own, about its next release
        ray.init(
            address="local",
            num_cpus=max(_LEAST_CPUS, min(cities, os.cpu_count() or 1)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield
    finally:
        ray.shutdown()


def _digest(settings: Settings) -> str:
    return hashlib.sha256(b"mtgpt salt " + settings.salt.get_secret_value().encode()).hexdigest()
