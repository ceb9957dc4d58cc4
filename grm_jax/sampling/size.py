"""`EngineSize`: how much an engine does at a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineSize:
    """How much an engine does at a time; a sample's bits depend on it.

    Args:
        slots: samples decoded at once.
        prompts: prompts that are kept at most; 0: half as many again as slots.
        places: samples of a prompt that share its row; more have a copy of it.
        piece: tokens of a prompt that are prefilled at a time; 0: as many as suit the device.
        steps: tokens that a call draws in each slot.
        banks: parts of the slots that run side by side; 0: as many as suit the device.
    """

    slots: int = 64
    prompts: int = 0
    places: int = 4
    piece: int = 0
    steps: int = 32
    banks: int = 0
