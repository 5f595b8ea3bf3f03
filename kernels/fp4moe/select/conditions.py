"""What an implementation asks of a device: small declarative predicates that say their reason in words.

In: a `Capability`. Out: None when met, else "needs <need>, this device is <name>". Compose with `AnyOf`; a
row of the table lists several conditions when all must hold. Nothing here looks at a device.
"""

from __future__ import annotations

from dataclasses import dataclass

from fp4moe.select.capability import Capability


class Condition:
    """Base: `accepts` decides, `need` is the noun phrase after "needs"."""

    __slots__ = ()

    @property
    def need(self) -> str:
        raise NotImplementedError

    def accepts(self, capability: Capability) -> bool:
        raise NotImplementedError

    def refusal(self, capability: Capability) -> str | None:
        """Why not, or None."""
        if self.accepts(capability):
            return None
        return f"needs {self.need}, this device is {capability.name}"


@dataclass(frozen=True, slots=True)
class AnyDevice(Condition):
    """Runs wherever torch does."""

    @property
    def need(self) -> str:
        return "any device"

    def accepts(self, capability: Capability) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class AnyCuda(Condition):
    """Any CUDA device."""

    @property
    def need(self) -> str:
        return "a CUDA device"

    def accepts(self, capability: Capability) -> bool:
        return capability.kind == "cuda"


@dataclass(frozen=True, slots=True)
class Never(Condition):
    """Met by no device: the need is something else, said in words."""

    missing: str

    @property
    def need(self) -> str:
        return self.missing

    def accepts(self, capability: Capability) -> bool:
        return False

    def refusal(self, capability: Capability) -> str | None:
        return f"needs {self.missing}"


@dataclass(frozen=True, slots=True)
class AtLeast(Condition):
    """This capability or a newer one, of any family."""

    minimum: str

    @property
    def need(self) -> str:
        return f"{self.minimum} or newer"

    def accepts(self, capability: Capability) -> bool:
        return capability.kind == "cuda" and capability.number >= Capability.parse(self.minimum).number


@dataclass(frozen=True, slots=True)
class Family(Condition):
    """This capability or a newer one of its family: Family("sm_100") is sm_100 to sm_109, never sm_120."""

    minimum: str

    @property
    def need(self) -> str:
        return f"{self.minimum} or newer family {Capability.parse(self.minimum).family}x"

    def accepts(self, capability: Capability) -> bool:
        least = Capability.parse(self.minimum)
        return capability.kind == "cuda" and capability.family == least.family and capability.number >= least.number


@dataclass(frozen=True, slots=True)
class OneOf(Condition):
    """Exactly one of these capabilities ("cpu" is one)."""

    names: tuple[str, ...]

    @property
    def need(self) -> str:
        return " or ".join(self.names)

    def accepts(self, capability: Capability) -> bool:
        return capability.name in self.names


@dataclass(frozen=True, slots=True)
class OlderThan(Condition):
    """A CUDA device below this capability."""

    limit: str

    @property
    def need(self) -> str:
        return f"a device older than {self.limit}"

    def accepts(self, capability: Capability) -> bool:
        return capability.kind == "cuda" and capability.number < Capability.parse(self.limit).number


@dataclass(frozen=True, slots=True)
class SharedMemory(Condition):
    """At least this much shared memory a block."""

    minimum_bytes: int

    @property
    def need(self) -> str:
        return f"{self.minimum_bytes} bytes of shared memory a block"

    def accepts(self, capability: Capability) -> bool:
        available_bytes = capability.shared_memory_bytes
        return available_bytes is not None and available_bytes >= self.minimum_bytes

    def refusal(self, capability: Capability) -> str | None:
        if self.accepts(capability):
            return None
        available_bytes = capability.shared_memory_bytes
        has = "an unknown amount" if available_bytes is None else f"{available_bytes}"
        return f"needs {self.need}, this device ({capability.name}) has {has}"


@dataclass(frozen=True, slots=True)
class AnyOf(Condition):
    """One of several conditions suffices."""

    conditions: tuple[Condition, ...]

    @property
    def need(self) -> str:
        return " or ".join(condition.need for condition in self.conditions)

    def accepts(self, capability: Capability) -> bool:
        return any(condition.accepts(capability) for condition in self.conditions)
