"""How does one file serve thousands of processes at once, and survive all of them?

In come changes as values (`changes`), from any thread or process.  Out go snapshots of the document, read without a
lock, and errors that say what the operating system refused.

Must not know: events and charts, other hosts, which program writes and why.

    lock, kernel_lock, sidecar   exclusive access: the kernel's lock excludes; mode bit and record make it visible
    lock_file, rights            making files that all who may write the directory can use
    file_store, group_commit     one change, or many at once, as one durable replacement
    replace                      replacing the file atomically, and setting files aside
    reader, plain_read, snapshot reading without a lock, and the result
    watch                        notice of changes to the file, from the kernel if possible
"""
