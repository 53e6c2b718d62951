#!/bin/sh
# Serves with config/config.json beside this file; options are passed on.
cd "$(dirname "$0")" || exit 1
exec node . "$@"
