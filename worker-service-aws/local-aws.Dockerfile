# The local AWS, for development alone: everybody knows its keys. Built from the root of the repository:
#   docker build -f worker-service-aws/local-aws.Dockerfile .
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE}
ENV PIP_CONFIG_FILE=/run/secrets/pip.conf PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore
WORKDIR /opt/csb
RUN python3 -m venv /opt/csb
COPY images/requirements.txt installer.txt
COPY worker-service-aws/requirements-local.txt requirements.txt
RUN --mount=type=secret,id=pip.conf --mount=type=secret,id=ca.pem \
    bin/pip install --require-hashes --only-binary :all: -r installer.txt \
    && bin/pip install --require-hashes --only-binary :all: -r requirements.txt
COPY csb-core build/csb-core
COPY worker-service-aws build/worker-service-aws
RUN bin/pip install --no-index --no-deps --no-build-isolation build/csb-core build/worker-service-aws
USER 10001:10001
EXPOSE 4566
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s --retries=3 \
    CMD ["/opt/csb/bin/python", "-I", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:4566/_csb/health', timeout=4)"]
ENTRYPOINT ["/opt/csb/bin/python", "-m", "worker_service_aws.local_aws", "--host", "0.0.0.0", "--port", "4566"]
