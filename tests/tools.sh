#!/bin/sh
# Installs the Debian packages of tests/debian-packages.txt that are missing. Never fails: tests that need a
# program that is not there are skipped, with the reason.
set -u
list=$(dirname "$0")/debian-packages.txt
command -v dpkg-query >/dev/null 2>&1 || { echo "tools: not a Debian system; see $list"; exit 0; }
wanted=$(sed 's/#.*//' "$list" | tr -s ' \n' ' ')
# shellcheck disable=SC2086 # a list of words
there=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^ii *//p')
missing=
for package in $wanted; do
  printf '%s\n' "$there" | grep -qx "$package" || missing="$missing $package"
done
[ -z "$missing" ] && exit 0
if [ "$(id -u)" != 0 ]; then
  echo "tools: some tests will be skipped; as root: apt-get install --no-install-recommends$missing"
  exit 0
fi
echo "tools: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# One by one where all together cannot be had; and nothing of it is started as a service.
policy=/usr/sbin/policy-rc.d
[ -e "$policy" ] || { printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && trap 'rm -f "$policy"' EXIT; }
fetch() { timeout 300 apt-get install -y -q --no-install-recommends -o Acquire::Retries=1 "$@" >/dev/null 2>&1; }
timeout 60 apt-get update -q -o Acquire::Retries=1 >/dev/null 2>&1 && online=1 || online=
# shellcheck disable=SC2086
if fetch $missing; then
  exit 0
elif [ -z "$online" ]; then
  echo "tools: no package source can be reached; some tests will be skipped"
else
  for package in $missing; do
    fetch "$package" || echo "tools: $package cannot be installed; its tests will be skipped"
  done
fi
exit 0
