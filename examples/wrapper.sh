#!/bin/sh
# Runs a container only when eclctl allows its image:  wrapper.sh IMAGE [ARGUMENT...]
#
# 0 is the only exit status of `eclctl check` that lets an image run. 1 is deny, 2 a wrong command line, 3 no decision
# (the daemon is down or late), 127 no eclctl; every other status is deny too.
set -u

ECLCTL=/usr/bin/eclctl
LAUNCHER=/usr/bin/singularity

if [ "$#" -lt 1 ]; then
    echo "usage: $0 IMAGE [ARGUMENT...]" >&2
    exit 2
fi

# An absolute name is neither an option nor a URI, for eclctl and for the launcher alike.
case $1 in
    /*) image=$1 ;;
    *) image=$PWD/$1 ;;
esac
shift

if "$ECLCTL" check -- "$image" >&2; then
    exec "$LAUNCHER" run "$image" "$@"
fi
echo "$0: the image may not run; eclctl explain '$image' says why" >&2
exit 1
