#!/bin/sh
# Check, build and push an image, with the cache of earlier runs. usage: build.sh CONTEXT NAME
# CACHE: a directory that CI keeps between runs, or type=registry,ref=…; PUSH=1: push it, too.
set -eu
context=$1 name=$2

layersmith check --error-on error "$context"

set --
case ${CACHE-} in
"") ;;
type=*) set -- --cache-from "$CACHE" --cache-to "$CACHE,mode=max" ;;
*)
    if [ -f "$CACHE/index.json" ]; then set -- --cache-from "type=local,src=$CACHE"; fi
    set -- "$@" --cache-to "type=local,dest=$CACHE,mode=max"
    ;;
esac
if [ -n "${PUSH-}" ]; then set -- "$@" --push; fi

layersmith build --progress plain "$@" -t "$name" "$context"
