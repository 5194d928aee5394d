#!/bin/sh
# The first command: a curl inside a private namespace, or, where that is not to
# be had, the same in one process. Usage: run.sh CATFLAP
set -u
catflap=$1
url=http://10.9.0.2/

if ! command -v curl >/dev/null; then
	echo "make run: curl is not installed, so the client is catflap's own: catflap get" >&2
elif ! why=$("$catflap" run -- true 2>&1); then
	printf '%s\n' "$why" >&2
	echo "make run: no TUN device in a private namespace here, so all in one process instead: catflap get" >&2
	"$catflap" doctor | sed -n '/^FAIL/,/->/p' >&2
else
	echo "+ catflap run --trace -- curl -s $url" >&2
	"$catflap" run --trace -- curl -s "$url"
	status=$?
	echo
	exit $status
fi
echo "+ catflap get --trace $url" >&2
"$catflap" get --trace "$url"
status=$?
echo
exit $status
