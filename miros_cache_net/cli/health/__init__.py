"""What `doctor` looks at: each check gives findings, each failure says how to mend it."""
