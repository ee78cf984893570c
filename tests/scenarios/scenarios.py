"""The one list of what befalls a fleet, and what its hosts have to say of it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pika

from miros_cache_net.limits import DOCUMENT_BYTES
from miros_cache_net.release import release
from miros_cache_net.settings.key_file import generate_key
from miros_cache_net.testing import RabbitServer, wait_until
from tests.scenarios.load import Load
from tests.scenarios.members import ProcessMember
from tests.scenarios.releases import installed
from tests.scenarios.world import INTERVAL_S, World

PROCESSES, NAMESPACES, CONTAINERS, CLUSTER = "processes", "namespaces", "containers", "cluster"
ALL: Final = (PROCESSES, NAMESPACES, CONTAINERS)
OWN: Final = (PROCESSES, NAMESPACES)
#: What `health` promises: of a broker, a network, a node or a disk that fails; of what only others can tell.
SOON_S: Final = 30.0
TWO_INTERVALS_S: Final = 2 * INTERVAL_S
ONE, EVERYBODY = "one", "everybody"
#: What a host says that speaks another format than the others.
FORMAT: Final = "the same release"
Step = Callable[[World, Load], None]


@dataclass(frozen=True)
class Scenario:
    """One fault.

    begin, end    bring it about, and take it away; `end` of what is over by itself does nothing
    prepare       what has to be there first
    kinds         of hosts to which it can happen
    unhealthy     whose `health` has to say no: `ONE` (whom it befalls) or `EVERYBODY`; "" where it is too short
    within_s      how soon
    because       what is to be among its words
    has_times     stamps are of more than one time: no whole writes meanwhile
    whole         hosts write whole documents meanwhile
    in_soak       it may befall a fleet among others, at random
    in_ci         on which kinds it is played whenever the tests run
    """

    name: str
    begin: Step
    end: Step = lambda _world, _load: None
    kinds: tuple[str, ...] = ALL
    unhealthy: str = ""
    within_s: float = SOON_S
    because: str = ""
    has_times: bool = False
    whole: bool = True
    in_soak: bool = True
    prepare: Step = lambda _world, _load: None
    in_ci: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.name.replace(" ", "_")


def on_alpha(name: str) -> Step:
    return lambda world, _load: getattr(world.victims[0], name)()


def own(do: Callable[[ProcessMember], None]) -> Step:
    """On alpha, which is no container."""

    def step(world: World, _load: Load) -> None:
        member = world.victims[0]
        assert isinstance(member, ProcessMember)
        do(member)

    return step


def at_broker(name: str) -> Step:
    return lambda world, _load: getattr(world.broker, name)()


def rolling_restart(world: World, load: Load) -> None:
    for member in world.victims:
        member.stop()
        load.more()
        member.start()
        world.wait_healthy()


def every_bridge_killed(world: World, load: Load) -> None:
    for member in world.victims:
        assert isinstance(member, ProcessMember)
        member.kill_one("bridge")
        load.more()
        world.wait_healthy()


def broker_lost_its_data(world: World, load: Load) -> None:
    world.broker.kill()
    world.forget()
    load.more()


def exchange_made_anew(world: World, load: Load) -> None:
    """By somebody else with an account: bindings go with it, and nobody is told."""
    member = world.members[0]
    assert isinstance(world.broker, RabbitServer)
    assert isinstance(member, ProcessMember)
    connection = pika.BlockingConnection(pika.URLParameters(world.broker.url))
    channel, name = connection.channel(), member.host.settings.exchange
    channel.exchange_delete(name)
    channel.exchange_declare(name, "topic", durable=True)
    connection.close()
    load.more(100)


def alarm(world: World, _load: Load) -> None:
    world.broker.ctl("set_vm_memory_high_watermark", "0.00001")


def alarm_over(world: World, _load: Load) -> None:
    world.broker.ctl("set_vm_memory_high_watermark", "0.4")


def keys_rotated(world: World, load: Load) -> None:
    """As docs/how-to/run-a-fleet.md has it: each step on all hosts before the next one."""
    old, world.key = world.key, generate_key().decode()
    for ring in ((old, world.key), (world.key, old), (world.key,)):
        for member in world.members:
            member.set_keys(*ring)
        load.more(60)
        for member in world.members:
            member.await_keys(*ring)


def upgraded(version: str, wire_format: int | None = None) -> Step:
    """As docs/how-to/upgrade-and-recovery.md has it: a host at a time; what two formats say of each other is theirs."""

    def step(world: World, load: Load) -> None:
        place = installed(world.members[0].path.parents[1] / "releases", version, wire_format)
        for count, member in enumerate(world.members, 1):
            assert isinstance(member, ProcessMember)
            replace_release(member, place, load)
            if wire_format is None or count == len(world.members):
                world.wait_healthy()
            if wire_format is None:
                answered = [version] * count + [release()] * (len(world.members) - count)
                seen = sorted(releases_seen(member))
                assert seen == sorted(answered), seen
            elif count == 1:
                wait_until(lambda: FORMAT in world.members[0].health()["why"], timeout_s=60, what="the first to say so")

    return step


def replace_release(member: ProcessMember, place: Path | None, load: Load) -> None:
    member.stop()
    load.more()
    member.install(place)
    member.start()
    load.more()


def releases_seen(member: ProcessMember) -> list[str]:
    """As `status` on that host shows them; of each host's bridge."""
    return [status["release"] for status in member.of_role("bridge").ask("fleet_status")]


def release_put_back(world: World, load: Load) -> None:
    for member in world.members:
        assert isinstance(member, ProcessMember)
        replace_release(member, None, load)
    world.wait_healthy()


def over_a_cap(world: World, load: Load) -> None:
    """Two halves of a fleet write more than one document may hold, and meet."""
    one, other = world.members[:2]
    one.cut()
    load.more()
    for member in (one, other):
        member.update({f"half of {member.name}": "x" * (DOCUMENT_BYTES // 2)})
    one.mend()


def whole_write(world: World, load: Load) -> None:
    """Which is the remedy that `health` names."""
    load.write_whole(world.members[1])


def another_key(world: World, _load: Load) -> None:
    world.victims[0].set_keys(generate_key().decode())


def its_key_again(world: World, _load: Load) -> None:
    world.victims[0].set_keys(world.key)


def clock_off(seconds: float) -> Step:
    return own(lambda member: member.skew(seconds))


def clock_off_over_a_restart(seconds: float) -> Step:
    def step(member: ProcessMember) -> None:
        member.stop()
        member.skew(seconds)
        member.start()

    return own(step)


def member_of_cluster(do: str, number: int) -> Step:
    def step(world: World, load: Load) -> None:
        assert world.cluster is not None
        if do in ("cut_off", "join_again"):
            getattr(world.cluster, do)(number)
        else:
            getattr(world.cluster.servers[number], do)()
        if do in ("kill", "pause", "cut_off"):
            world.cluster.wait_without(number)
            load.more()
            world.wait_healthy()  # whoever was connected to it has gone to another
        if do in ("start", "resume", "join_again"):
            if do == "resume":  # what was frozen does not know that it was away
                world.cluster.servers[number].ctl("stop_app")
                world.cluster.servers[number].ctl("start_app")
            world.cluster.wait_whole()

    return step


def _clocks() -> Iterator[Scenario]:
    yield Scenario("clock 45 s ahead", clock_off(45), clock_off(0), OWN, has_times=True)
    for seconds, side in ((3600, "ahead"), (-3600, "behind")):
        for step, when in ((clock_off, ""), (clock_off_over_a_restart, ", over a restart")):
            yield Scenario(
                f"clock an hour {side}{when}",
                step(seconds),
                step(0),
                OWN,
                ONE,
                TWO_INTERVALS_S,
                "clock is 3600 s",
                has_times=True,
                in_ci=(PROCESSES,) if (seconds > 0) == bool(when) else (),
            )


def _of_a_cluster() -> list[Scenario]:
    pairs = (("kill", "start", "killed"), ("pause", "resume", "paused"), ("cut_off", "join_again", "cut off"))
    return [
        Scenario(
            f"broker {number + 1} of 3 {what}",
            member_of_cluster(begin, number),
            member_of_cluster(end, number),
            (CLUSTER,),
        )
        for begin, end, what in pairs
        for number in range(3)
    ]


SCENARIOS: Final = (
    Scenario("rolling restart", rolling_restart),
    Scenario("host killed", on_alpha("kill"), on_alpha("start"), unhealthy=ONE, in_ci=(NAMESPACES,)),
    Scenario("host stopped", on_alpha("stop"), on_alpha("start"), unhealthy=ONE),
    Scenario(
        "host frozen", on_alpha("pause"), on_alpha("resume"), unhealthy=ONE, because="stopped?", in_ci=(PROCESSES,)
    ),
    Scenario("every bridge killed", every_bridge_killed, kinds=OWN),
    Scenario("follower killed", own(lambda member: member.kill_one("follower")), kinds=OWN),
    Scenario("broker killed", at_broker("kill"), at_broker("start"), unhealthy=EVERYBODY, in_ci=(PROCESSES,)),
    Scenario("broker restarted in good order", at_broker("stop"), at_broker("start"), unhealthy=EVERYBODY),
    Scenario("broker lost its data", broker_lost_its_data, at_broker("start"), OWN, EVERYBODY),
    Scenario("broker frozen", at_broker("pause"), at_broker("resume"), unhealthy=EVERYBODY, in_ci=(NAMESPACES,)),
    Scenario("exchange deleted and made anew", exchange_made_anew, kinds=OWN, in_ci=(PROCESSES,)),
    Scenario("memory alarm at the broker", alarm, alarm_over, ALL, EVERYBODY, 60.0, "the broker has an alarm"),
    Scenario("network cut, announced", on_alpha("cut"), on_alpha("mend"), unhealthy=ONE),
    Scenario(
        "network cut, silent",
        on_alpha("cut_silently"),
        on_alpha("mend"),
        ALL,
        ONE,
        in_ci=(NAMESPACES,),
    ),
    Scenario("only what it is sent is lost", on_alpha("deafen"), on_alpha("mend"), ALL, ONE),
    Scenario("slow link", on_alpha("slow_down"), on_alpha("mend")),
    Scenario("one packet of five lost", on_alpha("lose_packets"), on_alpha("mend"), (NAMESPACES, CONTAINERS)),
    Scenario(
        "over a cap",
        over_a_cap,
        whole_write,
        OWN,
        EVERYBODY,
        TWO_INTERVALS_S,
        "exceed a cap together",
        whole=False,
        in_soak=False,
    ),
    Scenario("package upgraded", upgraded("0.1.1"), release_put_back, (PROCESSES,), in_soak=False, in_ci=(PROCESSES,)),
    Scenario(
        "package upgraded to another format",
        upgraded("99.0", 99),
        release_put_back,
        (PROCESSES,),
        ONE,
        SOON_S * 4,
        FORMAT,
        in_soak=False,
    ),
    Scenario(
        "disk full",
        on_alpha("fill_disk"),
        on_alpha("free_disk"),
        ALL,
        ONE,
        because="no space left",
        prepare=on_alpha("have_small_disk"),
        in_ci=(PROCESSES,),
    ),
    Scenario("key rotated under writes", keys_rotated, kinds=(PROCESSES, CONTAINERS)),
    Scenario(
        "another key",
        another_key,
        its_key_again,
        (PROCESSES,),
        ONE,
        TWO_INTERVALS_S,
        "key list",
        in_ci=(PROCESSES,),
    ),
    Scenario(
        "another release's format",
        on_alpha("speak_another_format"),
        on_alpha("speak_ours_again"),
        OWN,
        ONE,
        TWO_INTERVALS_S,
        FORMAT,
    ),
    *_clocks(),
    *_of_a_cluster(),
)
