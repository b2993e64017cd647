//! What an io_end that is stuck holds up, in plain words: who waits in what, how often it was put back.
//!
//! Names are those of the recording's TASK records; a task without one is told by its number. It must
//! never say that a task waits for nothing else: its fsync may wait for more io_ends than this one.

use std::collections::BTreeMap;

use super::text::{duration, printable};
use crate::{
    event::Name,
    finding::{FindingPutBack, FindingStuck, FindingWaiter},
};

/// One paragraph; `None` if nothing waits and nothing was put back.
pub(super) fn paragraph(
    stuck: &FindingStuck,
    at_ns: u64,
    names: &BTreeMap<u32, Name<16>>,
) -> Option<String> {
    let put_back = stuck.put_back.map(put_back);
    let waiters = stuck.waiters.iter().map(|it| waiter(it, at_ns, names));
    let unnamed = (stuck.waiting as usize).saturating_sub(stuck.waiters.len());
    let more = (unnamed > 0).then(|| format!("{unnamed} more tasks wait with them."));
    let told: Vec<String> = put_back.into_iter().chain(waiters).chain(more).collect();
    (!told.is_empty()).then(|| told.join(" "))
}

fn put_back(told: FindingPutBack) -> String {
    let FindingPutBack { times, since_ns, last_ns } = told;
    let time = if times == 1 { "time" } else { "times" };
    let within = match last_ns.saturating_sub(since_ns) {
        0 => String::new(),
        ns => format!(" within {}", for_ns(ns)),
    };
    format!("Its work put it back {times} {time}{within}, and it did not get on meanwhile.")
}

fn waiter(waiter: &FindingWaiter, at_ns: u64, names: &BTreeMap<u32, Name<16>>) -> String {
    let FindingWaiter { tid, tgid: _, call, since_ns } = *waiter;
    let name = names.get(&tid).map(|name| format!(" \"{}\"", printable(&name.0)));
    let name = name.unwrap_or_default();
    let for_ns = for_ns(at_ns.saturating_sub(since_ns));
    format!("Task {tid}{name} had been in {call} for {for_ns}.")
}

fn for_ns(ns: u64) -> String {
    duration(i64::try_from(ns).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::paragraph;
    use crate::event::Name;
    use crate::finding::{FindingPutBack, FindingStuck, FindingWaiter};

    fn stuck(put_back: Option<FindingPutBack>, waiting: u32) -> FindingStuck {
        let waits = |tid, call, since_ns| FindingWaiter { tid, tgid: tid, call, since_ns };
        let waiters = [waits(7, "data_wait", 1_000), waits(8, "ext4_end_io_rsv_work", 3_000)];
        let waiters = waiters.into_iter().take(waiting as usize).collect();
        FindingStuck { since_ns: 0, alike: 0, delays: 0, put_back, waiters, waiting }
    }

    #[test]
    fn who_waits_is_told_by_name_where_the_recording_has_it_and_by_number_elsewhere() {
        let names = BTreeMap::from([(7, Name::new("postgres"))]);
        assert_eq!(
            paragraph(&stuck(None, 4), 5_000, &names).as_deref(),
            Some(
                "Task 7 \"postgres\" had been in data_wait for 4.000 µs. Task 8 had been in \
                 ext4_end_io_rsv_work for 2.000 µs. 2 more tasks wait with them."
            )
        );
        assert_eq!(paragraph(&stuck(None, 0), 5_000, &names), None);
    }

    #[test]
    fn how_often_it_was_put_back_is_told_with_the_time_that_it_took() {
        let told = |times, last_ns| {
            let put_back = FindingPutBack { times, since_ns: 1_000, last_ns };
            paragraph(&stuck(Some(put_back), 0), 5_000, &BTreeMap::new())
        };
        let often =
            "Its work put it back 41000 times within 3.000 µs, and it did not get on meanwhile.";
        assert_eq!(told(41_000, 4_000).as_deref(), Some(often));
        let once = "Its work put it back 1 time, and it did not get on meanwhile.";
        assert_eq!(told(1, 1_000).as_deref(), Some(once));
    }
}
