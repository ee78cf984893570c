"""`python -m miros_cache_net` is the command `miros-cache-net`."""

import sys

from miros_cache_net.cli import main

if __name__ == "__main__":
    sys.exit(main())
