"""The configuration of a fleet: a TOML file with the shows, their tenants and what each show needs.

    [fleet]
    page = "http://127.0.0.1:8080"

    [tenants.acme]
    shows = 4

    [shows.lobby]
    tenant = "acme"
    cpus = 2
    bundle = "bundles/landscape"
    scene = "lake"
    to = ["rtmp://stream.example.org/live/env:LOBBY_KEY"]

All other keys of a show are options of `everframe stream`, with underscores.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleet.stream_places import is_stream, stream_key
from streaming.arguments import DEFAULT_BUNDLE, parse
from streaming.broadcast import to_arguments
from streaming.errors import SinkError
from streaming.sinks.table import make_sinks

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)")
_OWN_MACHINE = {
    "sound": "sound",
    "midi": "a MIDI device",
    "osc": "OSC",
    "osc_out": "OSC",
    "sign": "signing, which is for recordings",
    "sign_key": "signing, which is for recordings",
    "ledger": "a ledger in a file",
}
_FILES = (
    "image", "clip", "past", "moving", "mask", "hints", "fallback", "behind", "away", "matte", "areas", "then", "input",
    "scene_from", "midi_map", "trust_engines",
)  # fmt: skip
_CUE = re.compile(r"--cue=[^:]*:([^=]*)=")  # SECONDS:KIND=VALUE
_ITS_PAGE = "http://127.0.0.1:0"
_ROUNDING = 1e-9  # of sums of shares
_LEAST_CPUS = 0.01  # what takes cores is counted
_ONE_CORE = 0.001  # as --cpu-share, which is one core at least
_FLEET_KEYS = ("page", "state", "state_every_s", "lease_s")
_TENANT_KEYS = ("shows", "cpus", "gpus")
_SHOW_KEYS = ("tenant", "bundle", "to", "cpus", "gpus")


@dataclass(frozen=True)
class Tenant:
    """Limits of all shows of one tenant together; None for no limit."""

    name: str
    shows: int | None = None
    cpus: float | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class ShowConfig:
    """One show.

    Args:
        name: of the show.
        tenant: whose it is; "" for nobody's.
        bundle: folder of the bundle, on the machine that runs the show.
        to: sinks, as behind `--to` of `everframe stream`.
        cpus: cores that it needs; its frames use as many threads.
        gpus: GPUs that it needs; may be a share of one.
        options: of `everframe stream`, with underscores.
    """

    name: str
    tenant: str = ""
    bundle: str = DEFAULT_BUNDLE
    to: tuple[str, ...] = field(default=(), repr=False)  # may hold stream keys
    cpus: float = 1.0
    gpus: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the address of a live input is one

    @property
    def arguments(self) -> list[str]:
        """The arguments of `python -m streaming`."""
        options = {"cpu_share": self.cpus if self.cpus >= 2 else _ONE_CORE, **self.options}
        return [*(f"--to={sink}" for sink in self.to), *to_arguments(options), "--", self.bundle]

    @property
    def keys(self) -> tuple[str, ...]:
        """A name for the place of each stream, under which there may be one sender; it does not show the stream key."""
        return tuple(stream_key(sink) for sink in self.to if is_stream(sink))


@dataclass(frozen=True)
class FleetConfig:
    """A fleet.

    Args:
        shows: name -> show, of those that can be started.
        problems: name -> why a show cannot be started, in one sentence.
        tenants: name -> limits.
        page: address of the page with all shows.
        state: folder or fsspec address where positions are kept as well; "" for the head's memory alone.
        state_every_s: seconds between two positions of a show.
        lease_s: seconds after which another machine may take over a stream whose sender is not heard of.
    """

    shows: Mapping[str, ShowConfig]
    problems: Mapping[str, str]
    tenants: Mapping[str, Tenant]
    page: str = "http://127.0.0.1:8080"
    state: str = ""
    state_every_s: float = 2.0
    lease_s: float = 5.0


def read_config(path: Path) -> FleetConfig:
    """Read a configuration; a show that cannot be started is a problem of its own, and the others are kept.

    Raises:
        ValueError: the file cannot be read, or what concerns all shows is wrong.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path} is not TOML: {error}") from None
    _require_keys(content, ("fleet", "tenants", "shows"), str(path))
    fleet = _table(content.get("fleet", {}), "[fleet]")
    _require_keys(fleet, _FLEET_KEYS, "[fleet]")
    tenants = {
        name: _tenant(name, _table(values, f"[tenants.{name}]"))
        for name, values in _table(content.get("tenants", {}), "[tenants]").items()
    }
    found = _table(content.get("shows", {}), "[shows]")
    if not found:
        raise ValueError(f"{path} has no shows: add a table such as [shows.lobby] with bundle and to")
    shows: dict[str, ShowConfig] = {}
    problems: dict[str, str] = {}
    for name, values in found.items():
        try:
            shows[name] = check_show(to_show(name, _table(values, f"[shows.{name}]")), shows.values(), tenants)
        except ValueError as error:
            problems[name] = str(error)
    page, state = fleet.get("page", FleetConfig.page), fleet.get("state", FleetConfig.state)
    for key, value in (("page", page), ("state", state)):
        if not isinstance(value, str):
            raise ValueError(f"[fleet] {key} is {value!r}, expected a text")
    return FleetConfig(
        shows,
        problems,
        tenants,
        page,
        state,
        _number(fleet, "state_every_s", FleetConfig.state_every_s, 0.1, 60.0, "[fleet]"),
        _number(fleet, "lease_s", FleetConfig.lease_s, 2.0, 60.0, "[fleet]"),
    )


def to_show(
    name: str, values: Mapping[str, Any], variables: Mapping[str, str] = os.environ, *, is_remote: bool = False
) -> ShowConfig:
    """Return a show from its table; `env:NAME` in a sink stands for the value of that variable.

    Args:
        name: of the show.
        values: the table.
        variables: of the environment.
        is_remote: whether it comes through the API: its options may then name no files and addresses of the machines.

    Raises:
        ValueError: a key or a value is wrong.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f'a show is called "{name}"; expected at most 40 small letters, digits and hyphens')
    where = f"[shows.{name}]"
    known = {*_SHOW_KEYS, *vars(parse([]))}
    _require_keys(values, sorted(known), where, "there is no such option of everframe stream")
    sinks = values.get("to", [])
    sinks = [sinks] if isinstance(sinks, str) else sinks
    if not isinstance(sinks, list) or not all(isinstance(sink, str) for sink in sinks):  # which may hold stream keys
        raise ValueError(f'{where} to must be a list of sinks, each a text, e.g. ["rtmp://HOST/APP/KEY"]')
    filled = tuple(_filled(sink, variables, where) for sink in sinks)
    for key in ("tenant", "bundle"):
        if not isinstance(values.get(key, ""), str):
            raise ValueError(f"{where} {key} is {values[key]!r}, expected a text")
    if values.get("bundle") == "":
        raise ValueError(f'{where} bundle is "": name the folder of a bundle, or leave it out for {DEFAULT_BUNDLE}')
    options = {key: value for key, value in values.items() if key not in _SHOW_KEYS}
    for key, what in _OWN_MACHINE.items():
        if options.get(key) is not None:
            raise ValueError(f"{where} has {key}: {what} does not move from machine to machine; leave it out")
    if options.get("cpu_share") is not None:
        raise ValueError(f"{where} has cpu_share: give the number of cores as cpus, which is reserved, too")
    if is_remote:
        _require_no_files(options, where)
    if "grpc://" in str(options.get("engine", "")):
        raise ValueError(f"{where} has an engine on a server, which keeps the states: choose one of the machine itself")
    for number, sink in enumerate(filled, 1):
        if sink != "null" and not is_stream(sink):
            raise ValueError(
                f"{where} to: sink {number} is no stream; a show that moves between machines sends to rtmp://, srt:// "
                "or whip://; its page is made by the fleet, and recordings by the server it sends to"
            )
    show = ShowConfig(
        name,
        values.get("tenant", ""),
        values.get("bundle", ShowConfig.bundle),
        filled or ("null",),
        _number(values, "cpus", ShowConfig.cpus, _LEAST_CPUS, 1024.0, where),
        _number(values, "gpus", ShowConfig.gpus, 0.0, 64.0, where),
        options,
    )
    _check_options(show, where)
    return show


def check_show(show: ShowConfig, others: Sequence[ShowConfig] | Any, tenants: Mapping[str, Tenant]) -> ShowConfig:
    """Check a show beside the others, and return it.

    Raises:
        ValueError: another show has its name or streams to the same place, or its tenant has no room for it.
    """
    others = list(others)
    for other in others:
        if other.name == show.name:
            raise ValueError(f"there is a show {show.name} already: choose another name, or end that one")
        if set(other.keys) & set(show.keys):
            raise ValueError(
                f"{show.name} streams to the same place and key as {other.name}: give each show a stream key of its own"
            )
    if len(set(show.keys)) < len(show.keys):
        raise ValueError(f"{show.name} streams twice to the same place and key: leave one out")
    if not show.tenant:
        return show
    tenant = tenants.get(show.tenant)
    if tenant is None:
        raise ValueError(f"{show.name} is of {show.tenant}, which is not in [tenants]: add it, or correct the name")
    own = [other for other in others if other.tenant == show.tenant]
    for limit, used, wanted, what in (
        (tenant.shows, len(own), 1, "shows"),
        (tenant.cpus, sum(other.cpus for other in own), show.cpus, "CPUs"),
        (tenant.gpus, sum(other.gpus for other in own), show.gpus, "GPUs"),
    ):
        if limit is not None and used + wanted > limit + _ROUNDING:
            raise ValueError(
                f"{show.name} would be over the limit of {tenant.name}: {used + wanted:g} {what}, {limit:g} are allowed"
            )
    return show


def _require_no_files(options: Mapping[str, Any], where: str) -> None:
    """Raise ValueError if an option reads a file or an address, or loads what is not checked."""
    cues = to_arguments({"cue": options.get("cue")})  # a text, a list or a table
    kinds = {match[1] for cue in cues if (match := _CUE.match(cue)) is not None}
    for key in _FILES:
        if options.get(key) or key in kinds:
            raise ValueError(
                f"{where} has {key}, which is for the fleet's own file: start the show without it, and send pictures "
                f"through its page or its API"
            )


def _check_options(show: ShowConfig, where: str) -> None:
    try:
        make_sinks((_ITS_PAGE, *show.to), parse(show.arguments).pixels)
    except (ValueError, SinkError) as error:
        reason = str(error).replace("; see python -m streaming --help", "; see everframe stream --help")
        raise ValueError(f"{where}: {reason}") from None


def _filled(sink: str, variables: Mapping[str, str], where: str) -> str:
    def value(match: re.Match[str]) -> str:
        if match[1] not in variables:
            raise ValueError(f"{where} to names the variable {match[1]}: set it where the fleet is started")
        return variables[match[1]]

    return _VARIABLE.sub(value, sink)


def _tenant(name: str, values: Mapping[str, Any]) -> Tenant:
    where = f"[tenants.{name}]"
    _require_keys(values, _TENANT_KEYS, where)
    limits: dict[str, Any] = {key: _number(values, key, 0.0, 0.0, 1e6, where) for key in values}
    if limits.get("shows", 0) % 1:
        raise ValueError(f"{where} shows is {limits['shows']:g}, expected a whole number")
    return Tenant(name, **limits)


def _number(values: Mapping[str, Any], key: str, default: float, low: float, high: float, where: str) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ValueError(f"{where} {key} is {value!r}, expected a number from {low:g} to {high:g}")
    return float(value)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}, expected a table")
    return value


def _require_keys(values: Mapping[str, Any], known: Sequence[str], where: str, otherwise: str = "") -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else otherwise or f"expected {', '.join(known)}"
            raise ValueError(f'{where} has "{key}": {hint}')
