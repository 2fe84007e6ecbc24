"""What each trial will take: parameters, memory and time, before it runs; and what these figures stand on."""

from __future__ import annotations

from pathlib import Path

from germinal.ledger import EstimateRecord, Ledger
from germinal.project.plan import Resolver
from germinal.project.wiring import Wiring


def estimate_trials(
    wiring: Wiring, resolver: Resolver, ledger: Ledger, folder: Path, before: int | None = None
) -> dict[str, EstimateRecord]:
    return {}
