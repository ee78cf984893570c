"""What does a fleet agree on, and how does it stand in a file?

In come JSON text, contents and stamps.  Out come immutable documents, which merge in any order to the same document,
and their canonical text.  This room does not know whose clock a stamp is from, where the file is or which host sent a
document.

    value        `Document`: one floor, entries above it, stamps, age and merge
    layout       a document's format in its file, and what it shows without its entries
    strict_json  JSON text to frozen values and back; refuses what the standard parser accepts against the RFC
    frozen       immutable JSON values

A program that only reads the file rarely needs `value`, so this file imports nothing.
"""
