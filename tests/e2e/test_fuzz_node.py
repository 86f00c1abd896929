"""A minute of malformed input: the node does not crash, hang, grow, lose or tell anything. Ten minutes: `make fuzz`."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks import fuzz_node

from clinic_cases import takes_minutes

SEED = 10


@takes_minutes
@pytest.mark.enable_socket
def test_a_storm_of_malformed_input(tmp_path: Path) -> None:
    found = fuzz_node.run(fuzz_node.Plan(minutes=1.0, seed=SEED), tmp_path)
    assert not found.faults, f"seed {SEED}\n{(tmp_path / 'node.log').read_text()[-5000:]}"
    assert len(found.thrown) == 9, "every attack had its turn"
    assert found.held > 0, "what was taken is held"
    assert found.messages > 0, "what was acknowledged is on the disk"
    assert set(found.probes) == set(fuzz_node.PROBES)
