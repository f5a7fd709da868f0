#!/bin/sh
# Builds the packages: target/debian/*.deb and target/generate-rpm/*.rpm. It needs cargo-deb and cargo-generate-rpm:
#     cargo install cargo-deb cargo-generate-rpm && packaging/build.sh
# With BINARY=FILE, the packages hold that binary and nothing is compiled; with FAST=1, they are hardly compressed.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${BINARY:-}" ]; then
  cargo build --release --locked
  BINARY=target/release/wsgw
fi
# What both package: the binary, and the man pages that it writes.
rm -rf target/package-files target/debian target/generate-rpm
mkdir -p target/package-files
strip -o target/package-files/wsgw "$BINARY"
target/package-files/wsgw man target/package-files/man
gzip -9n target/package-files/man/*

cargo deb --quiet --no-build --no-strip --compress-system ${FAST:+--fast}
cargo generate-rpm ${FAST:+--payload-compress none}
ls target/debian/*.deb target/generate-rpm/*.rpm
