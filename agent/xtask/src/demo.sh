# The demo, run in the guest: the agent watches while the reproducer of "ext4: fix race between
# sync and completed io work" does its writes, once as in 2012 and once through the page cache.

base=http://127.0.0.1:10491
log=/tmp/endiod.log
summary=/tmp/endiod.summary

say() { printf '\n=== %s\n' "$*"; }

give_up() {
	say "$*"
	cat $log
	exit 1
}

# Starts the agent and waits until it is ready.
start_agent() {
	endiod run >$summary 2>$log &
	agent=$!
	tries=0
	until wget -q -O /dev/null $base/readyz 2>/dev/null; do
		tries=$((tries + 1))
		kill -0 $agent 2>/dev/null || give_up "the agent ended before it was ready"
		[ $tries -gt 300 ] && give_up "the agent was not ready within 60 s"
		usleep 200000
	done
	tail -n 1 $log
}

# Stops the agent and shows its last summary.
stop_agent() {
	kill -TERM $agent
	wait $agent || give_up "the agent ended with $?"
	cat $summary
}

# stress FLAGS: the reproducer on 20 fresh files.
stress() {
	rm -rf /mnt/demo && mkdir /mnt/demo
	files=$(for n in $(seq 1 20); do echo /mnt/demo/f$n; done)
	endiod stress "$@" $files || give_up "the reproducer failed"
	sync
}

say "kernel $(uname -r), $(grep ' /mnt ' /proc/mounts)"

say "1. the commit's own line, watched: endiod stress -t 20 -s 10 -O -S -o 2 -I 1000 f1 … f20"
start_agent
stress -t 20 -s 10 -O -S -o 2 -I 1000
say "what the agent saw: direct I/O left io_end in Linux 5.5, so this line reaches the direct-I/O
    completion and fsync, and no io_end of file data is born"
stop_agent

say "2. the same pattern through the page cache: endiod stress --buffered -t 20 -s 10 -S -o 2 -I 1000"
start_agent
stress --buffered -t 20 -s 10 -S -o 2 -I 1000
usleep 1500000
say "a piece of the scrape: wget -O - $base/metrics"
wget -q -O - $base/metrics | grep -E '^endiod_(io_end_(started|completed)_total.*vda|io_end_phase_duration_seconds_(sum|count)|fsync_duration_seconds_count|violations_total.*certain.*vda|events_lost_total.*ring|probe_missed_total.* [1-9])'
say "what the agent saw: io_ends, born in writeback, converted by the worker after the device"
stop_agent
