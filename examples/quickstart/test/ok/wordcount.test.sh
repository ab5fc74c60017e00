#!/bin/sh
# A test in shell: exit code 0 is a pass.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo "one two two" >"$folder/text"
count=$(python3 -m wordcount "$folder/text")
[ "$count" = "3 $folder/text" ] || {
    echo "expected 3 words, got: $count" >&2
    exit 1
}
