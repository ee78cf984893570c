"""What does a fleet agree on, and how does it stand in a file?

In come JSON text, contents and stamps.  Out come documents that cannot be changed, merged in any order to the same one,
and their canonical text.  Whose clock a stamp is from, where the file lies and who sent a document is not known here.

    value        `Document`: one floor, entries above it, stamps, age and merge
    layout       how a document stands in its file, and what can be told of it at a glance
    strict_json  JSON text to frozen values and back, refusing what the standard parser lets pass
    frozen       JSON values that cannot be changed

A program that only reads the file mostly needs no `value`, so this file imports nothing.
"""
