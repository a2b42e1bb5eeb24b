# The backend alone: docker build -t ihp-backend . && docker run -p 9090:9090 -e IHP_BASIC_AUTH_USER=... ihp-backend
FROM python:3.11-slim AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /app
RUN python -m venv /venv
ENV PATH=/venv/bin:$PATH
COPY requirements.txt requirements-sdk.txt ./
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" -r requirements.txt \
 && pip install --no-cache-dir --no-deps -r requirements-sdk.txt

FROM python:3.11-slim
RUN useradd --system --create-home --uid 10001 ihp && mkdir /data && chown ihp /data
COPY --from=build /venv /venv
WORKDIR /app
COPY ihp_backend ihp_backend
COPY model_weights model_weights
COPY label_config label_config
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 IHP_HOST=0.0.0.0 IHP_DATA_DIR=/data
USER ihp
VOLUME /data
EXPOSE 9090
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:9090/health', timeout=2)"]
CMD ["python", "-m", "ihp_backend", "serve"]
