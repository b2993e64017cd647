//! The reference cores beside the rules, as the pipeline has them: for traces that name a kernel.

use endiod::{
    event::{Body, Context, Event, Name, Nanos, Stamp, Task},
    oracle::in_step::Oracle,
};

/// The cores at the begin of a stream of that kernel, with every probe of fentry attached.
pub(crate) fn cores(release: &str, has_claim: bool) -> Oracle {
    let task = Task { tid: 1, tgid: 1 };
    let stamp = Stamp { at: Nanos(0), cpu: None, lane: 0, seq: 0, task, context: Context::Task };
    let release = Name::<64>::new(release);
    let body = Body::Host { version: 1, cpus: 4, release, hash_key: 0 };
    let mut oracle = Oracle::default();
    oracle.set_claim_probe(has_claim);
    oracle.set_witnessed(true);
    oracle.observe(&Event { stamp, body });
    oracle
}
