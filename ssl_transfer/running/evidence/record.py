"""The folder of a grid: what was asked, and every finished cell at once, so that a stopped run goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from ssl_transfer.evaluation.evidence import Trial
from ssl_transfer.files import whole_file

TRIALS, SETTINGS, FEATURES = "trials.jsonl", "settings.json", "features"
WRITTEN = frozenset({TRIALS, SETTINGS, FEATURES, "evidence.json", "evidence.md", "evidence.html"})


class Record:
    """Finished trials in a folder.

    Args:
        folder: new, or holding the record of earlier runs.
        asked: as the user wrote the folder, for messages.
    """

    def __init__(self, folder: Path, asked: str) -> None:
        self.folder = folder
        self.asked = asked

    @property
    def features(self) -> Path:
        """Where encoded images are kept."""
        return self.folder / FEATURES

    def check(self) -> None:
        """Raise ValueError if the folder is a file, the one the user is in, or holds what is not ours."""
        if self.folder == Path.cwd():
            raise ValueError(f"--out {self.asked} is the folder you are in: give another, such as evidence")
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"--out {self.asked} is a file: give a folder")
        there = {path.name for path in self.folder.iterdir()} if self.folder.exists() else set()
        if foreign := sorted(name for name in there - WRITTEN if not name.startswith(".")):
            raise ValueError(f"--out {self.asked} holds other files ({', '.join(foreign[:3])}): give another folder")

    def claim(self, settings: dict[str, Any], overwrite: bool) -> None:
        """Begin, or go on under the same settings.

        Entries that are dicts may grow; all else must be as it was. Raises ValueError naming what differs.
        """
        if overwrite:
            for name in WRITTEN & ({path.name for path in self.folder.iterdir()} if self.folder.exists() else set()):
                path = self.folder / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        file = self.folder / SETTINGS
        before = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        settings = json.loads(json.dumps(settings))  # tuples are lists from here
        if differing := differences(before, settings):
            raise ValueError(
                f"--out {self.asked} was measured with other settings ({', '.join(differing[:3])}): "
                "give another --out, or --overwrite"
            )
        with whole_file(file) as new:
            new.write_text(json.dumps(merged(before, settings), indent=2) + "\n", encoding="utf-8")

    def trials(self) -> list[Trial]:
        """The finished trials; a line that was cut off when a run was killed is dropped."""
        file = self.folder / TRIALS
        if not file.exists():
            return []
        whole, newline, torn = file.read_text(encoding="utf-8").rpartition("\n")
        if torn:
            with whole_file(file) as new:
                new.write_text(whole + newline, encoding="utf-8")
        return [Trial.from_json(json.loads(line)) for line in whole.splitlines()]

    def append(self, trial: Trial) -> None:
        """Write a finished trial."""
        with (self.folder / TRIALS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(trial.to_json()) + "\n")


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Which entries that both have differ; within dicts, which of their entries.

    >>> differences({"a": 1, "b": {"x": 1, "y": 2}}, {"a": 2, "b": {"x": 1, "y": 3, "z": 4}, "c": 5})
    ['a', 'b of y']
    """
    found = []
    for name in before.keys() & now.keys():
        old, new = before[name], now[name]
        if isinstance(old, dict) and isinstance(new, dict):
            found += [f"{name} of {key}" for key in old.keys() & new.keys() if old[key] != new[key]]
        elif old != new:
            found.append(name)
    return sorted(found)


def merged(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """All entries of both, those of dicts too."""
    return before | {
        name: {**before.get(name, {}), **value} if isinstance(value, dict) else value for name, value in now.items()
    }
