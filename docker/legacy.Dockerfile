# The real miros-rabbitmq 0.2.0 on the last Python and pika that it runs on, for docker-compose.legacy.yml.
ARG LEGACY_PYTHON_IMAGE=python:3.9
FROM ${LEGACY_PYTHON_IMAGE}
RUN pip install --quiet --no-cache-dir --disable-pip-version-check --use-pep517 miros-rabbitmq==0.2.0 pika==0.13.1
COPY legacy_program.py /opt/
ENV PYTHONUNBUFFERED=1
# As the nodes' image: the secrets are that user's.
USER 10001:10001
WORKDIR /work
ENTRYPOINT ["python3", "/opt/legacy_program.py"]
