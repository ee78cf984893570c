# One image for every node of docker-compose.yml.  It holds no key and no password.
ARG PYTHON_IMAGE=python:3.12-slim

FROM ${PYTHON_IMAGE} AS build
LABEL net.miros-cache.stage=build
WORKDIR /source
COPY LICENSE pyproject.toml setup.py ./
# First with an empty package: the dependencies get a layer of their own, which an edit of ours does not make again.
RUN mkdir miros_cache_net && touch miros_cache_net/__init__.py README.md \
 && python3 -m venv /opt/miros-cache-net \
 && /opt/miros-cache-net/bin/pip install --quiet --no-cache-dir --disable-pip-version-check .
COPY README.md ./
COPY miros_cache_net miros_cache_net
RUN rm -rf build ./*.egg-info \
 && /opt/miros-cache-net/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall .

FROM ${PYTHON_IMAGE}
LABEL net.miros-cache.stage=node
# Volumes that are new take owner and mode from these directories.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/miros-cache-net node \
 && install -d -o node -g node -m 0700 /var/lib/miros-cache-net /etc/miros-cache-net \
 && install -d -o node -g node -m 0755 /etc/rabbitmq/conf.d
ENV PATH=/opt/miros-cache-net/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    MIROS_CACHE_FILE=/var/lib/miros-cache-net/cache.json
# By number, so that orchestrators can tell that it is not root.
USER 10001:10001
WORKDIR /var/lib/miros-cache-net
CMD ["miros-cache-net", "node"]
COPY docker/make_secrets.py /opt/
COPY --from=build /opt/miros-cache-net /opt/miros-cache-net
