"""What has this process done, and what is it doing now?

In come counts from every room, and steps from every chart.  Out go numbers by name for `status`, metrics and pages, and
the steps of all charts in one order.

Must not know: which program asks, or how an answer travels.

    families  the one table of what is counted: name, meaning, labels
    registry  the numbers of one node, or of the process
    living    the charts that run in this process
    steps     what the charts did; `moments`: when, by the hybrid clock; `shown`: payloads without secrets
"""
