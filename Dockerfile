# The backend and its trainer: docs/deploy.md.
#   docker build -t ihp-backend:cpu .
#   docker build -t ihp-backend:cuda --build-arg DEVICE=cuda .
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS dependencies
ARG DEVICE=cpu
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/requirements-${DEVICE}.lock /requirements.lock
# Each file must have its hash, wherever it comes from. Headers of torch are for compilers only.
RUN python -m venv --without-pip /venv \
 && python -m pip --python /venv/bin/python install --no-cache-dir --no-deps --require-hashes \
      --extra-index-url "${TORCH_INDEX}" -r /requirements.lock \
 && rm -rf /venv/lib/python3.11/site-packages/torch/include

FROM ${PYTHON_IMAGE}
RUN groupadd --gid 10001 ihp \
 && useradd --uid 10001 --gid ihp --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ihp \
 && install --directory --owner=ihp --group=ihp --mode=0750 /data
WORKDIR /app
COPY --from=dependencies /venv /venv
COPY model_weights model_weights
COPY label_config label_config
COPY ihp_backend ihp_backend
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    IHP_HOST=0.0.0.0 \
    IHP_PORT=9090 \
    IHP_DATA_DIR=/data
USER 10001:10001
VOLUME ["/data"]
EXPOSE 9090
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
  CMD ["python", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ['IHP_PORT'] + '/ready', timeout=4)"]
ENTRYPOINT ["python", "-m", "ihp_backend"]
CMD ["serve"]
