"""Targets that take the layout of another and add to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ssl_transfer.export.base import Options, Target
from ssl_transfer.export.subject import Subject


class Layered(Target):
    """Base of targets that write what another does, and more beside it.

    A subclass gives `choose`. Attribute `layout` is the chosen one, once `check` has been called.
    """

    layout: Target

    def choose(self, subject: Subject) -> Target:
        """The target whose layout is taken. ValueError, in one line, if there is none."""
        raise NotImplementedError

    def check(self, subject: Subject) -> None:
        self.layout = self.choose(subject)
        vars(self).update({name: getattr(self.layout, name) for name in ("golden", "tolerance", "hidden")})

    def of(self, target: type[Target], subject: Subject) -> Target:
        """A target with the options that it takes, if it holds the subject. ValueError if not."""
        default = Options()
        other = {name: getattr(default, name) for name in ("input", "maps", "license") if name not in target.takes}
        made = target(replace(self.options, **other))
        made.check(subject)
        return made

    def outputs(self, subject: Subject) -> list[str]:
        return self.layout.outputs(subject)

    def write(self, subject: Subject, folder: Path) -> None:
        self.layout.write(subject, folder)

    def example(self, subject: Subject) -> str:
        return self.layout.example(subject)

    def notes(self, subject: Subject) -> list[str]:
        return self.layout.notes(subject)
