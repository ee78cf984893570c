# One image for every host: `docker run IMAGE doctor` runs any command, without one it is a node.  It holds no key
# and no secret, no pip and no source.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
LABEL net.miros-cache.stage=build
WORKDIR /source
COPY LICENSE pyproject.toml setup.py ./
# First with an empty package: the dependencies get a layer of their own, which an edit of ours does not make again.
RUN mkdir miros_cache_net && touch miros_cache_net/__init__.py README.md \
 && python3 -m venv /opt/miros-cache-net \
 && /opt/miros-cache-net/bin/pip install --quiet --no-cache-dir --disable-pip-version-check '.[metrics,view]'
COPY README.md ./
COPY miros_cache_net miros_cache_net
RUN rm -rf build ./*.egg-info \
 && /opt/miros-cache-net/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall . \
 && rm -rf /opt/miros-cache-net/bin/*ctivate* /opt/miros-cache-net/bin/pip* \
    /opt/miros-cache-net/lib/python3.*/site-packages/pip* /opt/miros-cache-net/lib/python3.*/site-packages/setuptools*

FROM ${PYTHON_IMAGE}
LABEL net.miros-cache.stage=node \
      org.opencontainers.image.title=miros-cache-net \
      org.opencontainers.image.description="A node that keeps a cache of discoveries in step with those of other hosts" \
      org.opencontainers.image.version=0.1.0 \
      org.opencontainers.image.licenses=MIT \
      org.opencontainers.image.source=https://github.com/aleph2c/miros-cache-net
# Volumes that are new take owner and mode from these directories.  The base image's own pip goes too.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/miros-cache-net node \
 && install -d -o node -g node -m 0700 /var/lib/miros-cache-net /etc/miros-cache-net \
 && install -d -o node -g node -m 0755 /etc/rabbitmq/conf.d \
 && rm -rf /usr/local/bin/pip* /usr/local/lib/python3.*/site-packages/pip* /usr/local/lib/python3.*/ensurepip
ENV PATH=/opt/miros-cache-net/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MIROS_CACHE_FILE=/var/lib/miros-cache-net/cache.json
# By number, so that orchestrators can tell that it is not root.
USER 10001:10001
WORKDIR /var/lib/miros-cache-net
# For whoever runs the image by itself; what stands in a compose file takes its place.
HEALTHCHECK --interval=10s --timeout=10s --retries=3 CMD ["miros-cache-net", "health"]
ENTRYPOINT ["miros-cache-net"]
CMD ["node"]
COPY docker/make_secrets.py docker/make_certificates.py /opt/
COPY --from=build /opt/miros-cache-net /opt/miros-cache-net
