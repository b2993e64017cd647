# Runs the command and says how it ended: by busybox, or by the shell of a Debian root.
#
# The command's output goes to port 1, what the harness must know to port 2 (see control.rs).

control() { echo "$*" >/dev/vport0p2; }

# Runs the command with a pipe as its output, which it may open again by name; the port may not
# be. Sets `status`.
run_command() {
	mkfifo /run/output
	cat /run/output >/dev/vport0p1 &
	local relay=$!
	control start
	# Too late to be saved, in time to be explained: who is blocked where, for the kernel log.
	(sleep $TIMEOUT; echo l >/proc/sysrq-trigger; echo w >/proc/sysrq-trigger) &
	setsid sh /vm/command </dev/null >/run/output 2>&1
	status=$?
	# What the command left running may hold the pipe open: its output is not waited for.
	local tries=0
	while kill -0 $relay 2>/dev/null && [ $tries -lt 50 ]; do
		tries=$((tries + 1))
		sleep 0.02
	done
}

. /vm/settings
run_command
umount /out || sync -f /out
control "exit $status"
poweroff -n -f -f
sleep 1000
