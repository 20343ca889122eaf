#!/usr/bin/env bash
# `bash scripts/gpu-box.sh [--device cuda:0] [--limit SECONDS] [--out DIR] [STEP...]` in a copy of the tree with .gpu-box/ in it
# (npm run gpu-box makes that): unpacks Node, packages and dist/ and hands over to scripts/gpu-box-run.mjs, which says what the
# steps are. Needs Python 3 with torch, cmake, g++, make or ninja, nvcc; no network. What an earlier call unpacked is kept.
set -euo pipefail
cd "$(dirname "$0")/.."
box=.gpu-box
here=node_modules/.lpld-box

refuse() {
  printf 'gpu-box: %s\n' "$@" >&2
  exit 4
}

unpack() { # ARCHIVE FOLDER; Python's own reader where tar has no xz
  tar -xJf "$1" -C "$2" 2>/dev/null || python3 -m tarfile -e "$1" "$2"
}

[ -f "$box/box.json" ] || refuse 'expected .gpu-box/ in the tree' 'where Node is, run: npm run gpu-box; then carry it here'
if ! cmp -s "$box/box.json" "$here/box.json"; then
  [ ! -e node_modules ] || [ -d "$here" ] || refuse 'this tree has npm packages of its own' 'run this in a copy without them'
  rm -rf node_modules dist
  mkdir -p "$here"
  unpack "$box/node.tar.xz" "$here" &
  unpack "$box/packages.tar.xz" .
  wait $!
  cp "$box/box.json" "$here/box.json"
fi

export PATH="$PWD/$here:$PATH"
command -v nvcc >/dev/null || export PATH="$PATH:/usr/local/cuda/bin"
# The driver's library may lie where the loader finds it and the package does not look.
libcuda=$( (ldconfig -p 2>/dev/null || true) | sed -n 's|.*libcuda\.so\.1 .*=> *\(.*\)/libcuda\.so\.1$|\1|p' | head -n 1)
[ -z "$libcuda" ] || export LD_LIBRARY_PATH="$libcuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
exec node scripts/gpu-box-run.mjs "$@"
