"""A city in one file: its name, its time zone, its sources, and what its panel holds.

:func:`load_manifest` collects every fault of a manifest with its line and key, and raises once.
"""

from __future__ import annotations

import re
from datetime import date  # noqa: TC003 - pydantic reads the annotations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from mtgpt.contracts.variables import variables
from mtgpt.errors import NotFound, SourceRefused
from mtgpt.ingest.adapter import DATA
from mtgpt.ingest.checks import check
from mtgpt.ingest.faults import Faults, as_json, nearest
from mtgpt.ingest.pull.address import parse_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mtgpt.ingest.adapter import Adapter
    from mtgpt.settings import Settings

_SECRET = re.compile(r"(?:(?:ApiKey|Basic|Bearer|Token) )?\$\{ENV:[A-Za-z_][A-Za-z0-9_]*\}")
_HEADER = re.compile(r"(?!(?:host|connection|content-length|transfer-encoding|range)$)[a-z0-9-]{1,64}", re.IGNORECASE)
_CRON_FIELD = r"(?:\*|[0-9A-Za-z]{1,3}(?:-[0-9A-Za-z]{1,3})?)(?:/[0-9]{1,2})?"
_CRON_LIST = rf"{_CRON_FIELD}(?:,{_CRON_FIELD})*"
_CRON = re.compile(rf"{_CRON_LIST}(?: +{_CRON_LIST}){{4}}")
_HOUR = re.compile(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]|24:00")
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_MANIFEST_NAMES = ("*.yaml", "*.yml")

PATH_VARIABLES = ("MTGPT_REAL_DATA", "MTGPT_HOME", "MTGPT_CITIES")
"""What may begin a path as ``${NAME}``; each stands for the setting of that name."""

Identifier = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
Location = Annotated[str, Field(min_length=1, max_length=4096)]


class _Written(BaseModel):
    # Strict: `interval_s: "300"` is a slip that should be seen, not guessed at.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Source(_Written):
    """One feed of one department."""

    id: Identifier = Field(description="Name of the source within the city: a-z, 0-9, _.")
    kind: str = Field(description="Family of feeds, that is, which adapter reads it.")
    path: Location | None = Field(
        default=None,
        description="File, or glob whose every match is a batch of its own. Relative to this manifest; "
        "${MTGPT_REAL_DATA}, ${MTGPT_HOME} or ${MTGPT_CITIES} may begin it.",
    )
    url: Location | None = Field(default=None, description="http(s) address; ${ENV:NAME} may stand as a query value.")
    files: dict[Identifier, Location] = Field(
        default_factory=dict, description="Further files of the same batch by role: adjacency, locations, stations, …"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the adapter.")
    licence: str | None = Field(default=None, description="Licence of the data (SPDX id or text).")
    schedule: str | None = Field(default=None, description="Cron, five fields, in the city's time zone.")
    poll_s: float | None = Field(
        default=None, ge=1, le=604_800, description="Seconds between two polls of mtgpt watch, instead of a schedule."
    )
    allow_loopback: bool = Field(default=False, description="Allow a server on this very machine.")
    allow_hosts: tuple[Annotated[str, Field(pattern=r"^[a-z0-9.-]+(:[0-9]{1,5})?$")], ...] = Field(
        default=(), description="Further hosts (host or host:port) that a redirect may lead to."
    )
    headers: dict[str, str] = Field(
        default_factory=dict, description="HTTP headers; values only as ${ENV:NAME} or Bearer ${ENV:NAME}."
    )

    @property
    def location(self) -> str:
        """``path`` or ``url``, as written."""
        return self.path or self.url or ""

    @field_validator("path")
    @classmethod
    def _path_is_sound(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise PydanticCustomError("expected", "a file; an address goes under url")
        return value if value is None else _sound_path(value)

    @field_validator("url")
    @classmethod
    def _url_is_sound(cls, value: str | None) -> str | None:
        return value if value is None else _sound_url(value)

    @field_validator("files")
    @classmethod
    def _files_are_sound(cls, value: dict[str, str]) -> dict[str, str]:
        if DATA in value:
            raise PydanticCustomError("expected", "another role than data, which is the source's own path or url")
        for location in value.values():
            (_sound_url if "://" in location else _sound_path)(location)
        return value

    @field_validator("schedule")
    @classmethod
    def _schedule_is_cron(cls, value: str | None) -> str | None:
        if value is not None and not _CRON.fullmatch(value):
            raise PydanticCustomError("expected", "five cron fields, such as */5 * * * *")
        return value

    @field_validator("headers")
    @classmethod
    def _headers_are_references(cls, value: dict[str, str]) -> dict[str, str]:
        if not all(_HEADER.fullmatch(name) for name in value):
            raise PydanticCustomError("expected", "names of letters, digits and -, none that the client sets itself")
        if not all(_SECRET.fullmatch(text) for text in value.values()):
            raise PydanticCustomError("expected", "${ENV:NAME} references to the environment, never the secret")
        return value

    @model_validator(mode="after")
    def _one_location(self) -> Source:
        if (self.path is None) == (self.url is None):
            raise PydanticCustomError("expected", "exactly one of path and url")
        if self.poll_s is not None and self.schedule is not None:
            raise PydanticCustomError("expected", "poll_s or schedule, not both")
        return self


class PanelSpec(_Written):
    """What the city's panel holds."""

    interval_s: int = Field(default=300, ge=60, le=86_400, description="Length of a step in seconds; divides the day.")
    variables: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="Variables to keep; all where absent."
    )
    days: Literal["all", "weekdays"] = Field(default="all", description="Service days.")
    hours: tuple[str, str] = Field(default=("00:00", "24:00"), description="Local service window, HH:MM to HH:MM.")
    start: date | None = Field(default=None, description="First local date.")
    end: date | None = Field(default=None, description="Last local date.")
    corridor_size: int = Field(default=64, ge=2, le=200, description="Most spots of one variable in a corridor.")
    corridors: str = Field(
        default="graph",
        pattern=r"^(graph|attribute:[A-Za-z0-9_]+(,[A-Za-z0-9_]+)*)$",
        description="graph, or attribute:<name>[,<name>…]: the first that a place has names its corridor.",
    )
    neighbours: int = Field(default=5, ge=0, le=64, description="Nearest spots to link where the city has no graph.")
    min_coverage: float = Field(default=0.1, ge=0, le=1, description="Least share of observed steps of a series.")
    max_series: int | None = Field(default=None, ge=1, description="Keep only the largest series, by mean.")
    transfer_m: float = Field(
        default=250.0, ge=0, le=5000, description="How far apart places of two modes are one transfer; 0 for none."
    )
    use_suspect: bool = Field(
        default=False, description="Take values that looked wrong when they came (see observation.suspect)."
    )

    @field_validator("interval_s")
    @classmethod
    def _interval_divides_the_day(cls, value: int) -> int:
        if 86_400 % value or value % 60:
            raise PydanticCustomError("expected", "whole minutes that divide the day, such as 300 or 3600")
        return value

    @field_validator("hours")
    @classmethod
    def _hours_are_a_window(cls, value: tuple[str, str]) -> tuple[str, str]:
        if not all(_HOUR.fullmatch(hour) for hour in value) or value[0] >= value[1]:
            raise PydanticCustomError("expected", "two times HH:MM, the first before the second, at most 24:00")
        return value

    @model_validator(mode="after")
    def _parts_fit(self) -> PanelSpec:
        first, last = self.window_minutes
        if (last - first) * 60 % self.interval_s:
            raise PydanticCustomError("expected", "hours that hold whole steps of interval_s")
        if self.start is not None and self.end is not None and self.start > self.end:
            raise PydanticCustomError("expected", "start not after end")
        return self

    @property
    def window_minutes(self) -> tuple[int, int]:
        """``hours`` in minutes of the local day."""
        first, last = (int(hour[:2]) * 60 + int(hour[3:]) for hour in self.hours)
        return first, last


class CityManifest(_Written):
    """A city and its sources."""

    city: Identifier = Field(description="Id of the city; the file's name without its suffix.")
    name: str = Field(min_length=1, max_length=200, description="Name for people.")
    time_zone: str = Field(description="IANA time zone, such as Europe/Oslo.")
    country: str | None = Field(
        default=None, pattern=r"^[A-Z]{2}$", description="ISO 3166-1 code, for public holidays; null where unknown."
    )
    subdivision: str | None = Field(
        default=None, pattern=r"^[A-Z0-9-]{1,8}$", description="ISO 3166-2 part, for holidays."
    )
    simulated: bool = Field(default=False, description="No real city: every output says so.")
    licence: str | None = Field(default=None, description="Licence of the data where all sources share one.")
    description: str | None = Field(default=None, description="What the data is and where it comes from.")
    sources: tuple[Source, ...] = Field(min_length=1, description="The city's feeds.")
    panel: PanelSpec = Field(default_factory=PanelSpec, description="What the city's panel holds.")

    _file: Path = PrivateAttr(default=Path("city.yaml"))

    @property
    def file(self) -> Path:
        """The manifest's own file; relative paths of sources start from its folder."""
        return self._file

    def source(self, source_id: str) -> Source:
        """The source of that id.

        Raises:
            NotFound: No such source.
        """
        for source in self.sources:
            if source.id == source_id:
                return source
        known = [source.id for source in self.sources]
        raise NotFound("no such source", where=self.city, got=source_id, expected=", ".join(known))

    @field_validator("time_zone")
    @classmethod
    def _zone_is_known(cls, value: str) -> str:
        zones = available_timezones()
        if value not in zones:
            hint = nearest(value, zones)
            raise PydanticCustomError(
                "expected", "{zone}", {"zone": hint or "an IANA time zone such as America/Los_Angeles"}
            )
        return value

    @field_validator("sources")
    @classmethod
    def _ids_are_unique(cls, value: tuple[Source, ...]) -> tuple[Source, ...]:
        ids = [source.id for source in value]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise PydanticCustomError("expected", "ids that stand once; twice: {ids}", {"ids": ", ".join(twice)})
        return value


def load_manifest(
    name_or_path: str | Path, *, settings: Settings, adapters: Mapping[str, Adapter] | None = None
) -> CityManifest:
    """Reads and checks one manifest.

    Args:
        name_or_path: A city's name, looked up under ``settings.cities``, or the path of a YAML file.
        settings: Where manifests lie.
        adapters: Known kinds of feeds; the built-in ones where absent.

    Raises:
        NotFound: No such manifest; the error lists those that are there.
        ManifestError: Every fault of the file, each with line, key, got and expected.
    """
    file = _find(name_or_path, settings.cities)
    faults = Faults(file)
    document = faults.read()
    manifest = faults.validate(CityManifest, document.value)
    if manifest is None:
        raise faults.error()
    if not _is_path(name_or_path) and manifest.city != file.stem:
        faults.add(("city",), "differs from the file's name", got=manifest.city, expected=file.stem)
    check(
        manifest,
        faults,
        adapters=_registry() if adapters is None else adapters,
        vocabulary=variables(settings.contracts),
    )
    if faults:
        raise faults.error()
    manifest._file = file.resolve()  # noqa: SLF001 - frozen for everyone else
    return manifest


def list_manifests(settings: Settings) -> list[CityManifest]:
    """All manifests under ``settings.cities``, by name.

    Raises:
        ManifestError: The first one that has faults.
    """
    return [load_manifest(name, settings=settings) for name in manifest_names(settings.cities)]


def manifest_names(folder: Path) -> list[str]:
    """Names of the manifests in ``folder``, sorted."""
    return sorted({file.stem for pattern in _MANIFEST_NAMES for file in folder.glob(pattern)})


def source_options(source: Source, adapter: Adapter) -> BaseModel:
    """The source's options as an instance of the adapter's model.

    Raises:
        pydantic.ValidationError: They do not fit; cannot happen after :func:`load_manifest` with the same adapter.
    """
    return adapter.Options.model_validate_json(as_json(source.options))


def _registry() -> Mapping[str, Adapter]:
    # Adapters pull in polars and spreadsheet readers; whoever brings a registry of their own need not pay for them.
    from mtgpt.ingest.adapters import adapters  # noqa: PLC0415

    return adapters()


def _sound_url(value: str) -> str:
    try:
        parse_url(value)
    except SourceRefused as error:
        what = error.what if error.next_step is None else f"{error.what}; {error.next_step}"
        raise PydanticCustomError("refused", "{what}", {"what": what, "expected": error.expected}) from None
    return value


def _sound_path(value: str) -> str:
    found = _VARIABLE.search(value)
    if found and (found.start() or found[1] not in PATH_VARIABLES or "${" in value[found.end() :]):
        raise PydanticCustomError("expected", "at most one ${...}, at the start: " + ", ".join(PATH_VARIABLES))
    if "\0" in value:
        raise PydanticCustomError("expected", "a path without NUL")
    return value


def _is_path(name_or_path: str | Path) -> bool:
    return isinstance(name_or_path, Path) or name_or_path.endswith((".yaml", ".yml")) or "/" in name_or_path


def _find(name_or_path: str | Path, folder: Path) -> Path:
    if _is_path(name_or_path):
        file = Path(name_or_path)
        if not file.is_file():
            raise NotFound("no such manifest", where=file, expected="the path of a YAML file")
        return file
    names = manifest_names(folder)
    if name_or_path not in names:
        hint = nearest(str(name_or_path), names)
        raise NotFound(
            "no such city",
            where=folder,
            got=str(name_or_path),
            expected=", ".join(names) or "a manifest, but the folder has none",
            next_step=f"perhaps {hint} is meant" if hint else None,
        )
    return next(file for pattern in _MANIFEST_NAMES for file in folder.glob(pattern) if file.stem == name_or_path)
