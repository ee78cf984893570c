"""On the import path of a program that runs unchanged, so that `import miros_rabbitmq` finds the package here."""
