# mixmo-fast in a container; docs/training.md has the commands that build and run it.
#
# torch's wheels for Linux have CUDA in them and run on CPUs as well, so one image serves both. BASE is any image with
# apt-get, among them CUDA's own: Python is added where there is none.
ARG BASE=python:3.11-slim
FROM ${BASE}

# Of pyproject.toml, with commas between: ffcv, dali, cluster, timm, export, parquet.
ARG EXTRAS=
# Read by pip: where wheels of torch without CUDA are, say, or a mirror.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL

# torch.compile compiles with g++ on a CPU, and on a GPU its Triton with gcc and Python's headers. numba needs neither.
RUN apt-get update \
    && packages="gcc g++" \
    && if ! command -v python3 >/dev/null; then packages="$packages python3-dev python3-venv"; fi \
    && case ",$EXTRAS," in *,ffcv,*) packages="$packages libturbojpeg0-dev libopencv-dev pkg-config" ;; esac \
    && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $packages \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/mixmo-fast
ENV PATH=/opt/mixmo-fast/bin:$PATH

# What it needs first, which stays as it is while the code changes.
WORKDIR /opt/source
COPY pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir ".${EXTRAS:+[$EXTRAS]}"
COPY mixmo_fast mixmo_fast
COPY pipelines pipelines
COPY benchmarks benchmarks
RUN pip install --no-cache-dir --no-deps --force-reinstall .

# Whoever `docker run --user` names may write there; torch and numba keep what they compile in the home.
RUN useradd --create-home mixmo && mkdir -p /mixmo/data /mixmo/runs && chown mixmo /mixmo/data /mixmo/runs \
    && chmod 1777 /home/mixmo /mixmo /mixmo/data /mixmo/runs
ENV HOME=/home/mixmo USER=mixmo
# Of a GPU's driver, which CUDA's own images ask for themselves.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility
WORKDIR /mixmo
COPY configs configs
COPY examples examples
USER mixmo
VOLUME ["/mixmo/data", "/mixmo/runs"]

# By itself and not through a shell, so that `docker stop` reaches training, which saves where it is.
ENTRYPOINT ["mixmo-fast"]
CMD ["--help"]
