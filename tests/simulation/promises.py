"""What must hold of a world's history, whatever happened in it."""

from __future__ import annotations

from miros_cache_net.document.value import Document
from tests.simulation.simulator import DEFAULT_VALUE, Acknowledged, World


def check(world: World) -> None:
    """Agreement, nothing acknowledged lost but as it may be, nothing from nowhere, reads that never go back."""
    agreed(world)
    nothing_lost(world, world.hosts[0].disk)
    reads_went_forward(world)


def agreed(world: World) -> None:
    texts = {host.disk.to_text() if host.disk.is_written else b"" for host in world.hosts}
    assert len(texts) == 1, f"seed {world.seed}: {len(texts)} different documents after healing"
    late = [host.name for host in world.hosts if not host.in_step]
    assert not late, f"seed {world.seed}: {late} not in step after healing"


def nothing_lost(world: World, final: Document) -> None:
    seed = f"seed {world.seed}"
    wholes = {write.stamp: write for write in world.acknowledged if write.whole}
    floor = final.floor.stamp
    assert floor in wholes or floor.wall_ms == 0, f"{seed}: nobody wrote the floor {floor}"
    for write in world.acknowledged:
        assert_kept_or_beaten(final, write, wholes.get(floor), seed)
    known = {value for write in world.acknowledged for value in write.entries.values()} | {DEFAULT_VALUE}
    assert all(value in known for value in final.contents.values()), seed


def assert_kept_or_beaten(final: Document, write: Acknowledged, whole: Acknowledged | None, seed: str) -> None:
    """By a write of the same key, or by a whole one that it had not seen: that had seen it, or is concurrent."""
    assert final.floor.stamp >= write.stamp or not write.whole, f"{seed}: a whole write is lost"
    for key, value in write.entries.items():
        entry = final.entries.get(key)
        kept = entry is not None and entry.stamp >= write.stamp
        beaten = whole is not None and whole.stamp >= write.stamp
        assert kept or beaten, f"{seed}: {key}={value} at {write.stamp} is lost"
        if not kept and whole is not None and whole is not write:
            assert write.seen < whole.stamp, f"{seed}: {key}={value} had seen the whole write that it is lost to"


def reads_went_forward(world: World) -> None:
    for host in world.hosts:
        for earlier, later in zip(host.history, host.history[1:], strict=False):
            assert later.merged(earlier) is later, f"seed {world.seed}: {host.name} went back"
