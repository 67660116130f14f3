#!/usr/bin/env bash
# Brings a Ruby for the tests of the pipeline into the folder of tools, from Debian's packages; nothing of the system
# is changed. The chart's maker of documents needs of it no more than its own library.
set -euo pipefail
cd "$(dirname "$0")/../.."

tools=${CSB_TOOLS_DIR:-$PWD/.run/tools}
wrapper=$tools/bin/ruby
if [ -x "$wrapper" ] && "$wrapper" -rjson -rdigest -e '' 2>/dev/null; then
    exit 0
fi
echo "tools: Ruby, from Debian's packages"

mkdir -p "$tools/bin"
fetched=$(mktemp -d)
trap 'rm -rf "$fetched"' EXIT
chmod 755 "$fetched"
# "1:3.1" -> 3.1: the packages are called after it.
version() { apt-cache policy ruby 2>/dev/null | sed -nE 's/^ *Candidate: ([0-9]+:)?([0-9]+\.[0-9]+).*/\2/p'; }
download() { (cd "$fetched" && apt-get download -qq "ruby$(version)" "libruby$(version)" 2>/dev/null); }
if [ -z "$(version)" ] || ! download; then
    [ "$(id -u)" = 0 ] && apt-get update -qq
    download
fi

rm -rf "$tools/ruby"
for package in "$fetched"/*.deb; do
    dpkg -x "$package" "$tools/ruby"
done
root=$tools/ruby/usr
machine=$(basename "$(dirname "$(find "$root/lib" -name 'libruby-*.so*' | head -1)")")
library=$(find "$root/lib/ruby" -maxdepth 1 -name '[0-9]*' | head -1)
extensions=$(find "$root/lib/$machine/ruby" -maxdepth 1 -name '[0-9]*' | head -1)
cat >"$wrapper" <<END
#!/bin/sh
LD_LIBRARY_PATH=$root/lib/$machine RUBYLIB=$library:$extensions exec $root/bin/ruby$(version) --disable=gems "\$@"
END
chmod 755 "$wrapper"
"$wrapper" -rjson -rdigest -e ''
