"""When are bytes from outside a message that can be trusted?

Comes in: bytes of any origin, and keys.  Goes out: a `Message` from a key holder, well formed, bounded, meant for this
place and not a replayed request; or a refusal, counted by reason.  The other way round, it seals messages.

Must not know: how bytes travel, what a message causes.

    door      the one order of checks, for any format inside the encryption
    gate      the door for document messages; `envelope`: their format
    kinds     the one table of the kinds of message
    keyring   keys that encrypt and decrypt; `key_edit` changes their file
    replay    detects replayed requests; `refusals` counts and reports
"""
