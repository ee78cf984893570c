"""`python -m miros_cache_net.mesh PROGRAM [ARGUMENT...]`."""

import sys

from miros_cache_net.mesh.program import main

sys.exit(main())
