"""How does one file serve thousands of processes at once, and survive all of them?

Comes in: changes as values (`changes`), made by any thread or process.  Goes out: snapshots of the document, read
without a lock, and errors that say what the operating system refused.

Must not know: events and charts, other hosts, who writes and why.

    lock, kernel_lock, sidecar   exclusive access: the kernel's lock excludes, mode bit and record make it visible
    file_store, group_commit     one change, or many at once, as one durable replacement
    replace                      the new file in the place of the old one, and files set aside
    reader, plain_read, snapshot reading without a lock; what was read
    watch                        news of the file, from the kernel where it has any
"""
