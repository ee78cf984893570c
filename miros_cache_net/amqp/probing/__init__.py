"""The parts of a probe; `miros_cache_net.amqp.probe` is their face."""
