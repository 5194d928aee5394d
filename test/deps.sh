#!/bin/sh
# Installs the programs that the tests run, as root with apt-get; otherwise says
# what is missing. Usage: deps.sh [clients], with those of make clients too.
set -eu

# command:package
want='curl:curl ip:iproute2 ss:iproute2 tcpdump:tcpdump tshark:tshark sharkd:wireshark-common netstat:net-tools lsof:lsof
strace:strace nc:netcat-openbsd ping:iputils-ping setpriv:util-linux nsenter:util-linux ethtool:ethtool gcc:gcc nginx:nginx-light chromium:chromium
psql:postgresql redis-server:redis-server redis-benchmark:redis-tools memcached:memcached node:nodejs
dnsmasq:dnsmasq-base dig:bind9-dnsutils rsvg-convert:librsvg2-bin python3:python3 iperf3:iperf3 traceroute:traceroute
sshd:openssh-server ssh:openssh-client git:git'
[ "${1-}" != clients ] || want="$want node:nodejs npm:npm podman:podman runc:runc busybox:busybox-static"

missing=
for w in $want; do
	command -v "${w%%:*}" >/dev/null 2>&1 || case " $missing " in
	*" ${w##*:} "*) ;;
	*) missing="$missing ${w##*:}" ;;
	esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
	echo "installing$missing" >&2
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -q >/dev/null
	# shellcheck disable=SC2086
	apt-get install -q -y --no-install-recommends $missing >/dev/null
	exit 0
fi
echo "the tests that need these packages will be skipped:$missing" >&2
echo "to install them on Debian or Ubuntu: sudo apt-get install$missing" >&2
