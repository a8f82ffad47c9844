"""What of a network is not trained, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

from tilth.errors import SettingsError

__all__ = ["FreezeSettings"]


@dataclass(frozen=True, kw_only=True)
class FreezeSettings:
    """Which weights stay as they are.

    Attributes:
        names: parts of the network, each the start of a name up to a dot ("backbone", "heads.0"),
            or a pattern ("*.stem.*").
        layers: so many of the first layers that have weights, in the order of the network.
        until_step: from this step on everything is trained (Darknet's ``stopbackward``); 0 freezes
            for the whole run.

    >>> FreezeSettings(names=("backbone",), until_step=800).is_used
    True
    """

    names: tuple[str, ...] = ()
    layers: int = 0
    until_step: int = 0

    @property
    def is_used(self) -> bool:
        """Whether anything is frozen at all."""
        return bool(self.names) or self.layers > 0

    def __post_init__(self) -> None:
        for name in ("layers", "until_step"):
            if getattr(self, name) < 0:
                raise SettingsError(
                    f"setting 'freeze.{name}' cannot be used",
                    expected="0 or more",
                    got=str(getattr(self, name)),
                )
        if self.until_step and not self.is_used:
            raise SettingsError(
                "setting 'freeze.until_step' has nothing to end",
                expected="freeze.names or freeze.layers beside it",
                got=str(self.until_step),
            )
