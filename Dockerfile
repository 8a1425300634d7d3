# CUDA build of torch from PyPI; runs on the CPU as well. Build: docker build -t rscd .
FROM python:3.12-slim

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY rscd ./rscd
RUN pip install --no-cache-dir ".[train,cluster,stac]" && rm -rf /src && useradd --create-home rscd

USER rscd
WORKDIR /data
ENTRYPOINT ["rscd"]
CMD ["--help"]
