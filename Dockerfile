# One image for both roles, chosen by command:
#   mabeam run                         the operator
#   mabeam-agent run module:Class      an agent that is given by `spec.module`; the examples are inside
# An agent imports mabeam.agent alone, so it pays for none of the operator's libraries in memory
# (docs/design/0004-image-and-chart.md).

# Any image with Python 3.11 or newer and libstdc++ (for CEL); nothing is run in it, so it needs neither a shell nor pip.
ARG BASE=python:3.11-slim-bookworm
# The same image with pip: the same Python at the same path.
ARG BUILDER=${BASE}

FROM ${BUILDER} AS libraries
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
# pip's configuration and the CA bundle are secrets of the build: seen while pip runs, in no layer. Both are optional.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv --without-pip /opt/mabeam \
 && python3 -m pip --python /opt/mabeam/bin/python install --quiet --no-compile --only-binary=:all: --require-hashes \
      -r requirements/run.txt \
 && rm -rf /opt/mabeam/lib/python3*/site-packages/websocket/tests \
      /opt/mabeam/lib/python3*/site-packages/cel_expr_python/ext/ext_encoders.* \
      /opt/mabeam/lib/python3*/site-packages/cel_expr_python/ext/ext_optional.* \
      /opt/mabeam/lib/python3*/site-packages/cel_expr_python/ext/ext_proto.* \
# The Kubernetes client is generated, and mostly docstrings: it is kept as bytecode without them (124 MB become 37).
 && python3 -m compileall -q -b -o 2 --invalidation-mode unchecked-hash /opt/mabeam/lib/python3*/site-packages/kubernetes \
 && find /opt/mabeam/lib/python3*/site-packages/kubernetes -name '*.py' -delete \
 && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/mabeam/lib

FROM libraries AS program
COPY pyproject.toml setup.py README.md LICENSE ./
COPY packages/mabeam-agent/LICENSE packages/mabeam-agent/README.md packages/mabeam-agent/pyproject.toml packages/mabeam-agent/
COPY operator/mabeam operator/mabeam
COPY examples/annealers/annealers annealers
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m pip --python /opt/mabeam/bin/python install --quiet --no-warn-script-location --no-compile --no-deps --root /program \
      ./packages/mabeam-agent . \
 && cp -r annealers /program/opt/mabeam/lib/python3*/site-packages/ \
 && python3 -m compileall -q -s /program --invalidation-mode unchecked-hash /program/opt/mabeam/lib

# The bill of materials, read from what is really there. Its maker stays in this stage.
FROM libraries AS bill
COPY requirements/sbom.txt requirements/sbom.txt
RUN --mount=type=secret,id=pip,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    python3 -m venv --without-pip /opt/bill \
 && python3 -m pip --python /opt/bill/bin/python install --quiet --only-binary=:all: --require-hashes -r requirements/sbom.txt
COPY --from=program /program/ /
COPY pyproject.toml ./
# The root component's version is read from the code when the program is built; its bill wants it written down.
RUN mkdir -p /bill/usr/share/doc/mabeam \
 && version=$(/opt/mabeam/bin/python -c 'import mabeam; print(mabeam.__version__)') \
 && sed -i "s/^dynamic = .*/version = \"$version\"/" pyproject.toml \
 && /opt/bill/bin/cyclonedx-py environment --pyproject pyproject.toml --mc-type application --output-reproducible \
      --output-file /bill/usr/share/doc/mabeam/sbom.cdx.json /opt/mabeam/bin/python

FROM ${BASE}
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="mabeam" \
      org.opencontainers.image.description="Erlang/OTP supervision and multi-agent coordination for pods: the operator and the agents' runner" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# The libraries change seldom, the program often.
COPY --from=libraries /opt/mabeam /opt/mabeam
COPY --from=program /program/ /
COPY --from=bill /bill/ /
# USER and HOME: the user has no entry in /etc/passwd, and may be any other number.
ENV PATH=/opt/mabeam/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    USER=mabeam \
    HOME=/tmp
USER 65532:65532
WORKDIR /
# No ENTRYPOINT: a pod's `command` or `args` alone chooses the role.
CMD ["mabeam", "run"]
