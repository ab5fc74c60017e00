#!/bin/sh
# Ends as: failed, with exit code 3.
echo "a shell test that fails" >&2
exit 3
