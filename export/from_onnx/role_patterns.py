"""Roles of many tensors at once: `h_*=state:h_*_out`, where `*` stands for the same part of both names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from difflib import SequenceMatcher

from export.from_onnx.model import GraphPort

MARK = "*"


def match_pattern(pattern: str, names: Collection[str]) -> dict[str, str]:
    """Return the names that a pattern with one `*` matches, each with the part that `*` stands for."""
    before, _, after = pattern.partition(MARK)
    least = len(before) + len(after)
    return {
        name: name[len(before) : len(name) - len(after)]
        for name in names
        if len(name) > least and name.startswith(before) and name.endswith(after)
    }


def suggest_roles(missing: Sequence[GraphPort], inputs: Collection[str], outputs: Sequence[GraphPort]) -> str:
    """Return the options that give roles to some inputs, quoted for a shell.

    Inputs whose names fit those of outputs of their type and rank are suggested as states, many with one pattern.

    Args:
        missing: the inputs without a role.
        inputs: names of all inputs, so that no pattern fits another one.
        outputs: the outputs that may be the next values of states.

    Returns:
        For example `--role 'h_*=state:h_*_out' and --role gain=ROLE`.
    """
    types = {port.name: (port.dtype, len(port.shape)) for port in outputs}
    rest = list(missing)
    found: list[str] = []
    while len(rest) > 1:
        best, covered = _best_pattern(rest, inputs, types)
        if len(covered) < 2:
            break
        found.append(best)
        rest = [port for port in rest if port.name not in covered]
    found += [f"{port.name}=ROLE" for port in rest]
    return " and ".join(f"--role {shlex.quote(text)}" for text in found)


def _best_pattern(
    ports: Sequence[GraphPort], inputs: Collection[str], outputs: Mapping[str, tuple[str, int]]
) -> tuple[str, set[str]]:
    """Return the pattern that makes most of the ports states, and the names of these."""
    kinds = {port.name: (port.dtype, len(port.shape)) for port in ports}
    best, covered = "", set[str]()
    for output in (name for name, kind in outputs.items() if kind == kinds[ports[0].name]):
        for pattern, target in _patterns(ports[0].name, output):
            stems = match_pattern(pattern, inputs)
            # A pattern must not match an input that has a role, or whose output does not exist.
            fits = {
                name
                for name, stem in stems.items()
                if name in kinds and outputs.get(target.replace(MARK, stem)) == kinds[name]
            }
            if len(fits) == len(stems) > len(covered):
                best, covered = f"{pattern}=state:{target}", fits
    return best, covered


def _patterns(name: str, output: str) -> list[tuple[str, str]]:
    """Return pairs of patterns for an input and an output in which `*` stands for a number or a common part."""
    match = SequenceMatcher(None, name, output, autojunk=False).find_longest_match()
    stems = {*re.findall(r"[0-9]+", name), name[match.a : match.a + match.size].strip("_./:-")} - {""}
    pairs = []
    for stem in sorted(stems):
        if stem in output and MARK not in name + output:
            pairs.append((name.replace(stem, MARK, 1), output.replace(stem, MARK, 1)))
    return [pair for pair in pairs if pair[0] != MARK]
