# The serving image: `docker run IMAGE serve` is what the local SageMaker runs as `python -m captioner serve`. Nothing is
# installed when it starts. `captioner deploy image` builds and pushes it; docs/aws.md says the rest. Build from the
# repository's root; BASE may name the same image at another registry.
ARG BASE=public.ecr.aws/docker/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/captioner
# The packages first: they change less often than the code, and are most of the image.
COPY requirements/serve.txt requirements/serve.txt
# TensorFlow's C++ headers and the clang that its wheel asks for are for compiling against it: 350 MB of 1.6 GB.
RUN pip --python /opt/captioner/bin/python install --no-cache-dir --require-hashes -r requirements/serve.txt \
    && rm -r /opt/captioner/lib/python3*/site-packages/tensorflow/include /opt/captioner/lib/python3*/site-packages/clang
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip --python /opt/captioner/bin/python install --no-cache-dir --no-deps --no-build-isolation --no-index .

FROM ${BASE}
# SageMaker unpacks the model as root, readable by all, and asks on a port above 1024: root is needed for nothing.
RUN useradd --system --uid 10001 --no-create-home captioner
COPY --from=build /opt/captioner /opt/captioner
ENV PATH="/opt/captioner/bin:${PATH}" PYTHONUNBUFFERED=1
USER 10001
EXPOSE 8080
# The exec form, so that SIGTERM reaches the server and not a shell.
ENTRYPOINT ["/opt/captioner/bin/python", "-m", "captioner"]
CMD ["serve"]
