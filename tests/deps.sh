# Installs what building needs on Debian 12 (sourced by tests/run.sh and models/try.sh). Does nothing when it is there.
sard_install() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || missing+=("$p")
  done
  if [ ${#missing[@]} -eq 0 ]; then return 0; fi
  local sudo=""
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "needs root or sudo to install: ${missing[*]}" >&2; return 1; }
    sudo=sudo
  fi
  echo "installing ${missing[*]}" >&2
  if ! { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}"; } >/tmp/sard-apt.$$ 2>&1; then
    cat /tmp/sard-apt.$$ >&2; rm -f /tmp/sard-apt.$$; return 1
  fi
  rm -f /tmp/sard-apt.$$
}

sard_build_deps() { sard_install gcc libc6-dev cmake ninja-build llvm-19-dev libprotobuf-c-dev protobuf-c-compiler zlib1g-dev; }

# What ImageDecoder loads when it runs.
sard_image_deps() { sard_install libturbojpeg0 libpng16-16 libwebp7 libtiff6 libopenjp2-7; }

# What devices that are processes need. Where it cannot be had they are not built, and not tested.
sard_mpi_deps() { sard_install libopenmpi-dev openmpi-bin; }

# sard_python: a python3 with numpy, installed if need be, in $python. (A python3 of the user's own may lack it.)
sard_python() {
  for python in python3 /usr/bin/python3; do
    command -v $python >/dev/null && $python -c 'import numpy' 2>/dev/null && return 0
  done
  sard_install python3 python3-numpy || return 1
  for python in python3 /usr/bin/python3; do $python -c 'import numpy' 2>/dev/null && return 0; done
  echo "no python3 can import numpy" >&2
  return 1
}

# sard_build DIR [cmake flags...]: configures and builds; output only when something fails.
sard_build() {
  local dir=$1 log; shift
  log=$(mktemp)
  if ! { cmake -G Ninja -S . -B "$dir" "$@" && ninja -C "$dir"; } >"$log" 2>&1; then
    tail -40 "$log" >&2; rm -f "$log"; return 1
  fi
  rm -f "$log"
}
