#!/usr/bin/env bash
# One command for each habit; `./build.sh help` lists them. Each installs what it lacks, or says how.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

NAME=${BASH_SOURCE[0]}
NODE=20.19
WASM=wasm32-unknown-unknown
BINDGEN=$(sed -n 's/^wasm-bindgen = "=\(.*\)"/\1/p' Cargo.toml)

# What the drawings are made from; NOTICE has the licences.
SPRITES=(noto@1.2.9 noto-v1@1.2.5 fluent-emoji-flat@1.2.6 twemoji@1.2.5 emojione@1.2.3 openmoji@1.2.29)

usage() {
    cat <<TEXT
Usage: $NAME VERB

  demo [--port N] [--webgpu]  build the page for the CPU (and for WebGPU, which takes longer), serve it here
  test                        everything that CI runs; the last line is "N passed, N failed"
  lint                        formatting and clippy, natively and for the browser
  bench                       speed of a training step, beside PyTorch's, and of the data engine
  bench-web [cpu] [webgpu] [--rounds N] [--json FILE]
                              speed in Chromium, beside onnxruntime-web's and tfjs's; what WebGPU is asked for a step
  pkg                         the wasm builds and the npm package, into pkg/dist
  sprites                     rebuild the archives of drawings from their npm packages
  goldens                     rebuild the numbers that the tests compare with, by the PyTorch reference
  clean                       remove everything that was built or installed here
  help                        this text
TEXT
}

say() { printf '\n== %s\n' "$*"; }

die() {
    printf '%s: %s\n' "$NAME" "$*" >&2
    exit 1
}

# apt PACKAGE: installs a Debian package, or says how.
apt() {
    [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "$1 is missing; run: sudo apt-get install $1"
    say "installing $1"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1"
}

need_rust() {
    command -v cargo >/dev/null || die "Rust is missing; install it as https://rustup.rs says"
    cargo --version >/dev/null 2>&1 || rustup toolchain install
    command -v cc >/dev/null || apt gcc
    [ -d "$(rustc --print target-libdir --target $WASM)" ] || rustup target add $WASM
}

need_wasm() {
    need_rust
    PATH="$PWD/target/tools/bin:$PATH"
    if [ "$(wasm-bindgen --version 2>/dev/null)" != "wasm-bindgen $BINDGEN" ]; then
        say "installing wasm-bindgen $BINDGEN"
        cargo install wasm-bindgen-cli --version "$BINDGEN" --no-default-features --root target/tools
    fi
}

need_node() {
    local newest
    newest=$( (node --version 2>/dev/null || echo v0; echo v$NODE) | sort -V | tail -n 1)
    [ "$newest" = "v$NODE" ] && die "Node $NODE or newer is missing; install it as https://nodejs.org says"
    if [ ! -e www/node_modules ] || [ www/package-lock.json -nt www/node_modules/.package-lock.json ]; then
        say "installing the page's packages"
        (cd www && npm ci --no-audit --no-fund && touch node_modules/.package-lock.json)
    fi
}

need_chromium() {
    local name found
    for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
        if [ -n "$name" ] && found=$(command -v "$name"); then
            export CHROMIUM=$found
            return
        fi
    done
    unset CHROMIUM
    apt chromium
}

# The PyTorch reference's packages; PYTHON may name a program that has them.
need_reference() {
    if [ -z "${PYTHON:-}" ]; then
        PYTHON=target/reference/bin/python
        [ -x $PYTHON ] || python3 -m venv target/reference || die "venv is missing; run: sudo apt-get install python3-venv"
        $PYTHON -m pip install --quiet -r tests/reference/requirements.txt
    fi
}

# artefact FEATURES FOLDER: one wasm build with its JavaScript.
artefact() {
    say "building for the browser: $1"
    cargo build --target $WASM --profile web --lib --no-default-features --features "$1"
    wasm-bindgen --target web --out-name reca --out-dir "$2" target/$WASM/web/reca.wasm
}

# wasm NAME FEATURES MOST: what is shipped, into pkg/dist/NAME, of at most MOST bytes compressed.
wasm() {
    artefact "$2" "pkg/dist/$1"
    local size
    size=$(gzip -9c "pkg/dist/$1/reca_bg.wasm" | wc -c)
    say "$1: $size bytes compressed, at most $3"
    [ "$size" -le "$3" ] || die "the $1 build has grown"
}

# The laboratory and, fetched only by who loads one, the encoders; they share all dependencies. So for either backend.
wasm_cpu() {
    wasm cpu cpu,scene,tokenizers 960000
    wasm encoders cpu,encoders 1340000
}

wasm_webgpu() {
    wasm webgpu webgpu,scene,tokenizers 2300000
    wasm webgpu-encoders webgpu,encoders 2700000
}

pkg() {
    need_wasm
    need_node
    wasm_cpu
    wasm_webgpu
    (cd www && npm run --silent build:pkg)
}

page() {
    need_node
    (cd www && npm run --silent build)
}

demo() {
    local port=4173 webgpu=
    while [ $# -gt 0 ]; do
        case $1 in
            --port) port=${2:?--port needs a number} && shift ;;
            --webgpu) webgpu=yes ;;
            *) die "demo knows --port N and --webgpu, not $1" ;;
        esac
        shift
    done
    need_wasm
    need_node
    rm -rf pkg/dist
    wasm_cpu
    [ -z "$webgpu" ] || wasm_webgpu
    page
    say "open this address in a browser; Ctrl-C ends it"
    cd www && exec node_modules/.bin/vite preview --host 127.0.0.1 --port "$port"
}

lint() {
    need_rust
    say "formatting"
    cargo fmt --check
    say "clippy"
    cargo clippy --release --all-targets -- -D warnings
    say "clippy for the browser"
    cargo clippy --target $WASM --profile web --lib --no-default-features --features cpu,fusion,scene,encoders -- -D warnings
}

native() {
    need_rust
    cargo test --release --no-fail-fast
}

browser() {
    need_chromium
    (cd www && npm run --silent test)
}

passed=0 failed=0

# suite NAME FUNCTION: runs a step of the tests and adds up what it counts; a step that breaks is a failure.
suite() {
    local log=target/test/$1.log status good bad
    mkdir -p target/test
    say "$1"
    set +e
    (set -e && "$2") 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    set -e
    good=$(counted passed "$log") bad=$(counted failed "$log")
    [ "$status" = 0 ] || [ "$bad" != 0 ] || bad=1
    [ "$status" = 0 ] || say "$1 FAILED"
    passed=$((passed + good)) failed=$((failed + bad))
}

# counted WORD LOG: the sum of cargo's and our reporter's "N passed" or "N failed".
counted() {
    awk -v word="$1" '
        /^test result: / || /^[0-9]+ passed, [0-9]+ failed$/ {
            for (i = 2; i <= NF; i++) if ($i ~ "^" word) n += $(i - 1)
        }
        END { print n + 0 }' "$2"
}

tests() {
    suite lint lint
    suite native native
    suite package pkg
    suite page page
    suite browser browser
    printf '\n%d passed, %d failed\n' "$passed" "$failed"
    [ "$failed" = 0 ]
}

bench() {
    need_rust
    need_reference
    cargo bench --bench scene
    say "a training step, here and in PyTorch"
    local ours theirs
    ours=$(cargo bench --bench train_step | tail -n 1)
    theirs=$("$PYTHON" tests/reference/bench.py --threads "$(nproc)")
    "$PYTHON" - "$ours" "$theirs" <<'PYTHON'
import json, sys
ours, theirs = map(json.loads, sys.argv[1:])
print(json.dumps(ours), json.dumps(theirs), sep="\n")
print(f"samples per second, ours over PyTorch's: {ours['samples_per_second'] / theirs['samples_per_second']:.2f}")
PYTHON
}

# Of WebGPU it counts what is built; the CPU's part is built here.
bench_web() {
    need_wasm
    need_node
    need_chromium
    [[ " $* " == *" webgpu "* && " $* " != *" cpu "* ]] || peers
    node www/bench/run.mjs "$@"
}

# What the speed comparison needs beside the package: other engines, their files, and a build that shows its parts.
peers() {
    need_reference
    if [ ! -e www/bench/node_modules ] || [ www/bench/package-lock.json -nt www/bench/node_modules ]; then
        say "installing the other engines"
        (cd www/bench && npm ci --no-audit --no-fund --ignore-scripts && touch node_modules)
    fi
    wasm_cpu
    artefact cpu,bench,tokenizers target/bench-web/cpu
    (cd www && npm run --silent build:pkg)
    "$PYTHON" tests/reference/export_onnx.py --model www/models/mini --out target/bench-web
}

sprites() {
    need_rust
    command -v npm >/dev/null || die "npm is missing; install Node as https://nodejs.org says"
    mkdir -p target/sprites
    (cd target/sprites && npm pack --silent "${SPRITES[@]/#/@iconify-json/}")
    cargo run --release -- sprites --from target/sprites --out src/scene/sprites.json.gz
    cargo run --release -- sprites --from target/sprites --out tests/openmoji.json.gz --held
}

goldens() {
    need_rust
    need_reference
    cargo run --release -- scene --recipe src/train/recipes/nano.json --pool understanding --count 64 --seed 1 \
        --pack --out target/goldens/nano-understanding
    "$PYTHON" tests/reference/goldens.py --data target/goldens
    "$PYTHON" tests/reference/encoders.py
}

clean() {
    rm -rf target pkg/dist www/dist www/node_modules www/bench/node_modules
}

verb=${1:-help}
[ $# = 0 ] || shift
case $verb in
    demo) demo "$@" ;;
    test) tests ;;
    bench-web) bench_web "$@" ;;
    lint | bench | pkg | sprites | goldens | clean) "$verb" ;;
    help | --help | -h) usage ;;
    *) usage >&2 && die "there is no verb $verb" ;;
esac
