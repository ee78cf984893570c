"""One probe from end to end, each step with its own reason for a no."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable
from typing import Final, NoReturn, TypeVar

from pika import spec

from miros_cache_net.discovery.peers import trusted
from miros_cache_net.discovery.probe.dial import dial
from miros_cache_net.discovery.probe.handshake import Closed, Garbled, Handshake, TLSOnly
from miros_cache_net.discovery.probe.progress import Concluded, Progress
from miros_cache_net.discovery.probe.resolve import Resolver
from miros_cache_net.discovery.probe.verdict import Challenge, ProbeResult, ProbeTarget, Verdict

_T = TypeVar("_T")

#: AMQP reply codes that say no to what was asked (access refused, not found, not allowed); any other says that
#: the server itself is in trouble (forced to close, internal error, ...).
_REFUSALS: Final = (403, 404, 530)
_TLS_ENDED: Final = (Verdict.TLS_MISMATCH, "it ends the TLS session; does it want a client certificate?")


async def run_probe(progress: Progress, resolver: Resolver) -> ProbeResult:
    """The result; publishes and declares nothing, but for the challenge and its answer's own queue.

    Not bounded in time: whoever runs it cancels it, and takes ``progress.if_late`` for the answer.
    """
    try:
        await _steps(progress, resolver)
    except Concluded as end:
        return progress.result(end)


async def _steps(progress: Progress, resolver: Resolver) -> NoReturn:
    reader, writer = await dial(progress, resolver)
    try:
        handshake = Handshake(reader, writer)
        await _greet(progress, handshake)
        await _enter(progress, handshake)
        await _find_exchange(progress, handshake)
    finally:
        # a close that waits for the other side would let it decide how long
        writer.transport.abort()


async def _greet(progress: Progress, handshake: Handshake) -> None:
    progress.if_late = Concluded(Verdict.SILENT, "it takes connections, but says nothing")
    hung_up = Concluded(Verdict.NOT_AMQP, "it hangs up instead of an AMQP greeting")
    if progress.target.address.tls:
        hung_up = Concluded(*_TLS_ENDED)  # the alert that says why can get lost
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
    if not greeting.offers_plain:
        raise Concluded(Verdict.LOGIN_REFUSED, f"{progress.server} takes no passwords (it does not offer PLAIN)")


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
    """TLS that proves to whom one speaks: Python checks no host name without verifying the certificate."""
    return target.address.tls and (target.tls_context is None or target.tls_context.check_hostname)


async def _enter(progress: Progress, handshake: Handshake) -> None:
    broker, server = progress.target.address, progress.server
    progress.if_late = Concluded(Verdict.SILENT, f"{server} greets, then does not answer in time")
    no_login = Concluded(Verdict.LOGIN_REFUSED, f"{server} refuses user {broker.user!r} or the password")
    await _ask(handshake.login(broker.user, broker.password.reveal()), refused=no_login, hung_up=no_login)
    await _ask(
        handshake.open_vhost(broker.vhost),
        refused=Concluded(
            Verdict.NO_VHOST, f"{server} has no vhost {broker.vhost!r}, or user {broker.user!r} may not use it"
        ),
        hung_up=Concluded(Verdict.SILENT, f"{server} hangs up"),
    )


async def _find_exchange(progress: Progress, handshake: Handshake) -> NoReturn:
    """Concludes with `Verdict.OK`, or what was wrong."""
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
    # what is known stands, however the goodbye goes
    progress.if_late = verdict
    with contextlib.suppress(Concluded):
        await _ask(handshake.close(), refused=verdict, hung_up=verdict)
    raise verdict


async def _challenge(progress: Progress, handshake: Handshake, challenge: Challenge) -> None:
    """Nothing here reaches an old program's queue: only nodes of ours are bound to this key."""
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
    """The step's answer; else raises `refused`, `hung_up`, or what else the other side turns out to be."""
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
