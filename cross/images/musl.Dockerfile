# For `cross build --release --target T`: cross's own image for T has the musl toolchain that ring's C code and the linker need;
# nothing else is wanted.
ARG CROSS_BASE_IMAGE
FROM $CROSS_BASE_IMAGE
# Paths of the build are not part of the binary.
ENV CFLAGS="-ffile-prefix-map=/cargo=cargo -ffile-prefix-map=/target=target"
