"""What came of a disturbance: a line of the table."""

from dataclasses import dataclass, field

from tests.faults.compare import Difference


@dataclass
class Round:
    """`count` disturbances of one kind, and what was lost, doubled or different after them."""

    what: str
    count: int
    lost: int = 0
    doubled: int = 0
    different: list[str] = field(default_factory=list)

    def add(self, found: Difference) -> None:
        """Adds what a comparison found."""
        self.lost += found.lost
        self.doubled += found.doubled
        self.different += found.different

    @property
    def good(self) -> bool:
        return not (self.lost or self.doubled or self.different)


def table(rounds: list[Round]) -> str:
    """The rounds as text; under it, in full, whatever differed."""
    total = Round("all", 0)
    for row in rounds:
        total.count += row.count
        total.lost += row.lost
        total.doubled += row.doubled
        total.different += row.different
    lines = [f"{'':<44} {'rounds':>7} {'lost':>6} {'doubled':>8} {'different':>10}"]
    lines += [
        f"{row.what:<44} {row.count:>7} {row.lost:>6} {row.doubled:>8} {len(row.different):>10}"
        for row in [*rounds, total]
    ]
    lines += [f"{row.what}: {text}" for row in rounds for text in row.different]
    return "\n".join(lines)
