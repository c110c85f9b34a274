#!/bin/sh
# Makes .venv with the versions of constraints.txt and fetches the embedded models.
# A stamp, written last, tells the next call that all is there; an interrupted call is continued by the next one.
set -eu
cd "$(dirname "$0")/.."

python=.venv/bin/python
stamp=.venv/s3local-stamp

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 2; }
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
pin() { sed -n "s/^\($1==[^ ]*\).*/\1/p" constraints.txt; }
installed() { # NAME==VERSION
    "$python" -c 'import importlib.metadata as m, sys
name, version = sys.argv[1].split("==")
try: found = m.version(name).split("+")[0]
except m.PackageNotFoundError: found = None
sys.exit(found != version)' "$1"
}
has_compiler() {
    for compiler in "${CXX:-c++}" c++ g++ clang++; do
        command -v "$compiler" > /dev/null && return
    done
    return 1
}
fingerprint() {
    "$python" -c 'import hashlib, sys
print(hashlib.sha256(b"".join(open(p, "rb").read() for p in sys.argv[1:])).hexdigest())' \
        constraints.txt pyproject.toml scripts/setup.sh
}

make_environment() {
    base=${PYTHON:-python3}
    command -v "$base" > /dev/null || die "$base is not here; install Python 3.10 or newer (Debian: apt install python3)"
    "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        die "$("$base" --version) is too old; 3.10 or newer is needed (PYTHON=python3.12 make ... chooses another)"
    "$base" -c 'import venv, ensurepip' 2> /dev/null ||
        die "$base has no venv module (Debian: apt install python3-venv)"
    say "making the environment .venv with $("$base" --version)"
    "$base" -m venv --clear .venv
}

install_packages() {
    pip install --quiet 'pip>=23.1'

    torch=$(pin torch)
    if ! installed "$torch"; then
        say "installing $torch (a large download, once; on Linux pip chooses a build for graphics cards," \
            "unless it is set to an index of CPU builds)"
        pip install "$torch" -c constraints.txt
    fi

    llama=$(pin llama_cpp_python)
    if ! installed "$llama"; then
        if has_compiler; then
            say "installing $llama: building it for this processor takes about 10 minutes on 2 cores, once;" \
                "pip keeps the result"
            pip install "$llama" -c constraints.txt
        else
            say "there is no C++ compiler; looking for a ready build of $llama"
            pip install --quiet --only-binary=llama-cpp-python "$llama" -c constraints.txt 2> /dev/null ||
                die "$llama must be built, and there is no C++ compiler (Debian: apt install g++)"
        fi
    fi

    say "installing the other packages"
    pip install --quiet -r constraints.txt
    pip install --quiet --no-deps --no-build-isolation -e .
}

if ! "$python" -c 'import pip' 2> /dev/null; then
    make_environment
fi
if [ "$(cat "$stamp" 2> /dev/null)" != "$(fingerprint)" ]; then
    install_packages
    fingerprint > "$stamp"
fi
say "checking the embedded models (fetched once, about 190 MB)"
.venv/bin/s3local models fetch
