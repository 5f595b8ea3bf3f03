#!/bin/sh
# Installs Debian's Nsight Systems for `make test-full`, where this is Debian and root; says plainly why not elsewhere.
# Exit code 0: nsys answers. 3: it cannot be installed here, and the tests that need it will skip with that reason.
set -u

say() { echo "install_nsys: $*" >&2; }

if command -v nsys >/dev/null 2>&1 && timeout 20 nsys --version >/dev/null 2>&1; then
    say "nsys is here: $(timeout 20 nsys --version)"
    exit 0
fi
[ "$(id -u)" = 0 ] || { say "not root: install the package nsight-systems (component non-free) yourself"; exit 3; }
command -v apt-get >/dev/null 2>&1 || { say "no apt-get: install Nsight Systems yourself"; exit 3; }

# Enable contrib and non-free in the sources that are already here; both of apt's formats.
for file in /etc/apt/sources.list.d/debian.sources; do
    [ -f "$file" ] && ! grep -q '^Components:.*non-free\( \|$\)' "$file" && sed -i '/^Components:/ s/$/ contrib non-free/' "$file"
done
if [ -f /etc/apt/sources.list ]; then
    sed -i '/^deb .* main$/ s/$/ contrib non-free/' /etc/apt/sources.list
fi

timeout 300 apt-get update -qq >/dev/null 2>&1 || say "apt-get update failed; trying with the lists that are here"
DEBIAN_FRONTEND=noninteractive timeout 900 apt-get install -y -qq --no-install-recommends nsight-systems >/dev/null 2>&1 || {
    say "apt-get could not install nsight-systems (no such package in these sources, or no network)"
    exit 3
}
timeout 20 nsys --version >/dev/null 2>&1 || { say "nsight-systems is installed and nsys does not answer"; exit 3; }
say "installed: $(timeout 20 nsys --version)"
