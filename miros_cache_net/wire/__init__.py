"""When are bytes from outside a message that can be trusted?

Comes in: bytes of any origin, and keys.  Goes out: a `Message` of a holder of a key, well formed, bounded, meant for
this place and no repeated request; or a refusal that is counted by its reason.  The other way: messages, sealed.

Must not know: how bytes travel, what a message leads to.

    gate      the one door, with the order of all checks
    kinds     the one table of the kinds of message
    envelope  what stands inside the encryption
    keyring   keys that encrypt and decrypt; `key_edit` changes their file
    replay    requests that came before; `refusals` counts and tells
"""
