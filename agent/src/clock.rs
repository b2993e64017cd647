//! The clocks, read here only: to stamp the agent's own records and to age what is in flight, and to say
//! when a configuration was read and a finding was made.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::event::Nanos;

/// CLOCK_MONOTONIC, the clock of `bpf_ktime_get_ns`.
pub fn monotonic() -> Nanos {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to; the call keeps no reference.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    assert_eq!(status, 0, "CLOCK_MONOTONIC exists on every Linux");
    let seconds = u64::try_from(time.tv_sec).expect("monotonic time is not negative");
    let nanoseconds = u64::try_from(time.tv_nsec).expect("nanoseconds are not negative");
    Nanos(seconds * 1_000_000_000 + nanoseconds)
}

/// CLOCK_REALTIME since 1970, for people and for Prometheus; it can be stepped.
pub fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// When a moment of [`monotonic`] was, by [`since_epoch`] now; wrong by as long as the host slept since.
pub fn date(at: Nanos) -> Duration {
    let age = Duration::from_nanos(monotonic().0.saturating_sub(at.0));
    since_epoch().saturating_sub(age)
}
