"""One probe from start to end, with its own reason for failure at each step."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, NoReturn, TypeVar

from pika import spec

from miros_cache_net.discovery.peers import trusted
from miros_cache_net.discovery.probe.dial import dial, resolve
from miros_cache_net.discovery.probe.handshake import Closed, Garbled, Handshake, TLSOnly
from miros_cache_net.discovery.probe.progress import Concluded, Progress
from miros_cache_net.discovery.probe.resolve import Address, Resolver
from miros_cache_net.discovery.probe.verdict import Challenge, ProbeResult, ProbeTarget, Verdict

_T = TypeVar("_T")

#: AMQP reply codes that reject a request (access refused, not found, not allowed); any other means that the server
#: itself has a problem (connection forced, internal error, ...).
_REFUSALS: Final = (403, 404, 530)
_TLS_ENDED: Final = (
    Verdict.TLS_MISMATCH,
    "it ends the TLS session; does it want a client certificate, MIROS_CACHE_TLS_CERTIFICATE_FILE?",
)


async def run_probe(progress: Progress, resolver: Resolver) -> ProbeResult:
    """Run one probe; publishes and declares nothing, except for the challenge and its exclusive answer queue.

    It has no time limit of its own: the caller cancels it, and then takes ``progress.if_late`` as its end.
    """
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + progress.target.timeout_s
    try:
        addresses = await resolve(progress, resolver)
    except Concluded as end:
        return progress.result(end)
    for nth, address in enumerate(addresses):
        share_s = (deadline_s - loop.time()) / (len(addresses) - nth)
        progress.so_far = progress.furthest(await _conclude(progress, address, share_s))
        if progress.so_far.ok:
            break
    assert progress.so_far is not None, "a name that is resolved has an address"
    return progress.so_far


async def _conclude(progress: Progress, address: Address, share_s: float) -> Concluded:
    """How the probe ends at this address, which has `share_s` to greet as RabbitMQ.

    The steps run in a task of their own, so that the expiry of `share_s` cannot be confused with the cancellation of
    the whole probe.
    """
    task = asyncio.ensure_future(_steps(progress, address, lambda: timer.cancel()))  # noqa: PLW0108 - made later
    timer = asyncio.get_running_loop().call_later(share_s, task.cancel)
    try:
        await asyncio.wait({task})
    finally:
        timer.cancel()
        if task.cancel():
            await asyncio.wait({task})
    try:
        return await task
    except asyncio.CancelledError:
        return progress.if_late
    except Concluded as end:
        return end


async def _steps(progress: Progress, address: Address, greeted: Callable[[], None]) -> NoReturn:
    reader, writer = await dial(progress, address)
    try:
        handshake = Handshake(reader, writer)
        await _greet(progress, handshake)
        greeted()
        await _enter(progress, handshake)
        await _find_exchange(progress, handshake)
    finally:
        # A graceful close would let the other side decide how long it takes.
        writer.transport.abort()


async def _greet(progress: Progress, handshake: Handshake) -> None:
    progress.if_late = Concluded(Verdict.SILENT, "it takes connections, but says nothing")
    hung_up = Concluded(Verdict.NOT_AMQP, "it hangs up instead of an AMQP greeting")
    if progress.target.address.tls:
        hung_up = Concluded(*_TLS_ENDED)  # The TLS alert with the reason can get lost.
    try:
        greeting = await _ask(handshake.greet(), refused=hung_up, hung_up=hung_up)
    except asyncio.CancelledError:
        if handshake.heard:
            progress.if_late = Concluded(Verdict.NOT_AMQP, "it talks, but finishes no AMQP greeting in time")
        raise
    if greeting.product != "RabbitMQ":
        raise Concluded(Verdict.NOT_RABBITMQ, f"AMQP, but {greeting.product or 'a product without a name'}")
    progress.server = f"RabbitMQ {greeting.version}".strip()
    _check_trust(progress)
    mechanism = "EXTERNAL" if progress.target.external_login else "PLAIN"
    if mechanism not in greeting.mechanisms:
        what = "client certificates as a login" if progress.target.external_login else "passwords"
        raise Concluded(Verdict.LOGIN_REFUSED, f"{progress.server} takes no {what} (it does not offer {mechanism})")


def _check_trust(progress: Progress) -> None:
    target = progress.target
    if not target.send_password:
        raise Concluded(Verdict.NOT_TRUSTED, f"{progress.server} seen, password not sent")
    if not _tls_verified(target) and not trusted(progress.dialled, target.networks):
        raise Concluded(
            Verdict.NOT_TRUSTED,
            f"{progress.server} seen, password not sent: neither verified TLS nor in MIROS_CACHE_TRUSTED_NETWORKS",
        )


def _tls_verified(target: ProbeTarget) -> bool:
    """Whether TLS proves the server's identity; `check_hostname` implies a verified certificate in Python."""
    return target.address.tls and (target.tls_context is None or target.tls_context.check_hostname)


async def _enter(progress: Progress, handshake: Handshake) -> None:
    broker, server = progress.target.address, progress.server
    progress.if_late = Concluded(Verdict.SILENT, f"{server} greets, then does not answer in time")
    no_login = Concluded(Verdict.LOGIN_REFUSED, f"{server} refuses user {broker.user!r} or the password")
    if progress.target.external_login:
        no_login = Concluded(Verdict.LOGIN_REFUSED, f"{server} has no user of the client certificate's name")
        login = handshake.login("EXTERNAL", "")
    else:
        login = handshake.login("PLAIN", f"\0{broker.user}\0{broker.password.reveal()}")
    await _ask(login, refused=no_login, hung_up=no_login)
    await _ask(
        handshake.open_vhost(broker.vhost),
        refused=Concluded(
            Verdict.NO_VHOST, f"{server} has no vhost {broker.vhost!r}, or user {broker.user!r} may not use it"
        ),
        hung_up=Concluded(Verdict.SILENT, f"{server} hangs up"),
    )


async def _find_exchange(progress: Progress, handshake: Handshake) -> NoReturn:
    """Find the exchange and pose the challenge; raises `Concluded` with `Verdict.OK` or the failure."""
    target, server = progress.target, progress.server
    verdict = Concluded(Verdict.OK, f"{server} with exchange {target.exchange!r}")
    try:
        await _ask(
            handshake.find_exchange(target.exchange),
            refused=Concluded(
                Verdict.NO_EXCHANGE, f"{server} has no exchange {target.exchange!r}; the first node makes it"
            ),
            hung_up=Concluded(Verdict.SILENT, f"{server} hangs up"),
        )
        if target.challenge is not None:
            await _challenge(progress, handshake, target.challenge)
    except Concluded as end:
        verdict = end
    # The verdict stands, however the close goes.
    progress.if_late = verdict
    with contextlib.suppress(Concluded):
        await _ask(handshake.close(), refused=verdict, hung_up=verdict)
    raise verdict


async def _challenge(progress: Progress, handshake: Handshake, challenge: Challenge) -> None:
    """Pose the challenge.  It reaches no old program's queue: only this package's nodes bind this routing key."""
    server = progress.server
    nobody = Concluded(
        Verdict.NOBODY_ANSWERED,
        f"{server}, but no node of this fleet is there: start one, or compare site, scope and document",
    )
    hung_up = Concluded(Verdict.SILENT, f"{server} hangs up")
    queue = await _ask(handshake.listen(), refused=nobody, hung_up=hung_up)
    properties = spec.BasicProperties(reply_to=queue, headers={"key-id": challenge.key_id})
    publishing = handshake.publish(challenge.exchange, challenge.routing_key, challenge.body, properties)
    if not await _ask(publishing, refused=nobody, hung_up=hung_up):
        raise nobody
    progress.if_late = Concluded(
        Verdict.WRONG_KEY, f"{server}; a node listens there, but answers nothing that our keys open"
    )
    while not challenge.judge(await _ask(handshake.answer(), refused=nobody, hung_up=hung_up)):
        pass


async def _ask(step: Awaitable[_T], *, refused: Concluded, hung_up: Concluded) -> _T:
    """The result of `step`; raises `refused`, `hung_up`, or a `Concluded` for the kind of server it turns out to be."""
    try:
        return await step
    except Closed as closed:
        if closed.code in _REFUSALS:
            raise refused from None
        if closed.code:
            raise Concluded(Verdict.SILENT, f"RabbitMQ gives up (AMQP code {closed.code}): see its log") from None
        raise hung_up from None
    except Garbled as garbled:
        raise Concluded(Verdict.NOT_AMQP, f"{garbled.looks_like} answers there") from None
    except TLSOnly:
        raise Concluded(Verdict.TLS_MISMATCH, "it expects TLS: use amqps://, or its port without TLS") from None
    except ssl.SSLError:
        raise Concluded(*_TLS_ENDED) from None
    except OSError:
        raise hung_up from None
