#!/usr/bin/env bash
# Debian's Chromium and its driver for tests/integration/page_browser.py, which skips its tests where there is none, and,
# where there is npm, axe-core, which judges what the page is to people who do not see it or use no mouse.
set -euo pipefail

installed() { command -v chromium >/dev/null && command -v chromedriver >/dev/null; }

if ! installed && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  export DEBIAN_FRONTEND=noninteractive
  log=$(mktemp)
  apt() { apt-get install --yes --no-install-recommends chromium chromium-driver >>"$log" 2>&1; }
  apt || { apt-get update >>"$log" 2>&1 && apt; } || tail -n 5 "$log" >&2
  rm -f "$log"
fi
installed || echo "chromium: not installed here, and it takes root and apt-get to install it" >&2

axe=axe-core-4.14.1.tgz
if [ ! -e ".venv/$axe" ]; then
  { command -v npm >/dev/null && npm pack --silent --pack-destination .venv axe-core@4.14.1 >/dev/null; } ||
    echo "axe-core: not fetched, since there is no npm or no registry" >&2
fi
