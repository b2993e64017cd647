#!/bin/busybox sh
# The first process of a guest: makes it ready, then runs the command (run.sh), or gives way to the
# systemd of a Debian root, of which a unit does that.
#
# What the harness must know goes to port 2 (see control.rs), everything else to the console, which is
# the kernel log. /vm/settings and the other files of /vm are written by the harness for this run.

export PATH=/bin:/sbin HOME=/root TERM=dumb

control() { echo "$*" >/dev/vport0p2; }

# The guest could not be made ready: not the command's doing.
fail() {
	echo "init: $*"
	control "fail $*"
	poweroff -nf
	sleep 1000
}

# attempt WHAT COMMAND…: runs the command; its complaint becomes the reason.
attempt() {
	local what="$1" said
	shift
	said=$("$@" 2>&1) || fail "cannot $what: $(echo $said)"
}

mount_kernel_trees() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mkdir -p /dev/pts /dev/shm
	mount -t devpts devpts /dev/pts
	mount -t tmpfs tmpfs /dev/shm
	mount -t tmpfs tmpfs /tmp
	mount -t tmpfs tmpfs /run
	mount -t debugfs debugfs /sys/kernel/debug
	mount -t tracefs tracefs /sys/kernel/tracing
	mount -t bpf bpf /sys/fs/bpf
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	ln -s /proc/self/fd /dev/fd
	ln -s /proc/self/fd/0 /dev/stdin
	ln -s /proc/self/fd/1 /dev/stdout
	ln -s /proc/self/fd/2 /dev/stderr
}

# The drivers find their devices a moment after they are loaded.
wait_for() {
	local tries=0
	until [ -e "$1" ]; do
		tries=$((tries + 1))
		[ $tries -gt 500 ] && fail "$1 did not appear"
		usleep 10000
	done
}

allow_observation() {
	echo 0 >/proc/sys/kernel/kptr_restrict
	echo -1 >/proc/sys/kernel/perf_event_paranoid
	ulimit -l unlimited
	ulimit -n 65536
}

# Gives way to systemd, which gets the kernel as Debian has it and a unit that runs the command. What is
# mounted goes along; of this root /vm alone.
enter_debian() {
	local units=/run/systemd/system mounted="proc sys dev run in out" dir
	[ "$MOUNT" = none ] || mounted="$mounted mnt"
	wait_for /dev/vdf
	mkdir /debian
	attempt "mount the Debian root" mount -t ext4 /dev/vdf /debian
	mkdir -p /debian/vm /debian/in /debian/out $units/multi-user.target.wants
	cp /vm/command.service $units/
	ln -s ../command.service $units/multi-user.target.wants/
	attempt "bind /vm" mount -o bind /vm /debian/vm
	for dir in $mounted; do
		attempt "move /$dir" mount -o move /$dir /debian/$dir
	done
	cd /debian
	attempt "move the root" mount -o move . /
	exec chroot . /sbin/init
}

mount_kernel_trees
. /vm/load_base
wait_for /dev/vport0p2
wait_for /dev/vport0p1
control boot
wait_for /dev/vda
wait_for /dev/vde
. /vm/settings

hostname endiod-guest
ip link set lo up
if [ -n "$NETWORK" ]; then
	wait_for /sys/class/net/eth0
	attempt "set up eth0" ip link set eth0 up
	attempt "set up eth0" ip addr add 10.0.2.15/24 dev eth0
	attempt "set up eth0" ip route add default via 10.0.2.2
fi
mount -o bind /in /in
mount -o remount,ro,bind /in
# Synchronous: what was written is on the disk even if the guest hangs a moment later.
attempt "mount /out" mount -t vfat -o sync,dirsync,quiet,shortname=mixed /dev/vde /out
if [ "$MOUNT" != none ]; then
	attempt "mount /dev/vda with options '$MOUNT'" mount -t ext4 -o "$MOUNT" /dev/vda /mnt
fi
# From here on the console has every message of the kernel.
dmesg -n 8
. /vm/load_extra
[ "$ROOT" = debian ] && enter_debian
allow_observation
. /vm/run
