//! What the programs leave out at their own bounds: each way of each rule is silenced by the bounds that
//! it rests on, and by no other.

use endiod::detect::{DETECTORS, Rule, Suppressed};
use endiod::event::ProgramBound;

use crate::{Core, core, data};

/// By fixture of a way: the bounds that silence it. Each way of an io_end rests on lives that are known to
/// last.
const SILENCED_BY: &[(&str, &[ProgramBound])] = &[
    ("double_process_second_claim.trace", &[ProgramBound::LiveIoEnds]),
    (
        "raw_tp_double_process_listed_again.trace",
        &[ProgramBound::LiveIoEnds, ProgramBound::ListWalk],
    ),
    ("release_twice.trace", &[ProgramBound::LiveIoEnds]),
    ("use_after_release_put.trace", &[ProgramBound::LiveIoEnds]),
    ("raw_tp_use_after_release_bio.trace", &[ProgramBound::LiveIoEnds, ProgramBound::RequestWalk]),
    ("bad_reference_put_at_zero.trace", &[ProgramBound::LiveIoEnds]),
    ("oracle_divergence.trace", &[ProgramBound::LiveIoEnds]),
    ("raw_tp_bad_reference_bio.trace", &[ProgramBound::LiveIoEnds, ProgramBound::RequestWalk]),
    ("bad_linkage_in_flight.trace", &[ProgramBound::LiveIoEnds]),
    ("unknown_flag_bits.trace", &[ProgramBound::LiveIoEnds]),
    ("raw_tp_unknown_flag_bits.trace", &[ProgramBound::LiveIoEnds, ProgramBound::RequestWalk]),
    ("lost_flag_update_failed.trace", &[ProgramBound::LiveIoEnds]),
    ("lost_flag_update_unwritten.trace", &[ProgramBound::LiveIoEnds]),
    ("unlocked_flag_write_listed.trace", &[ProgramBound::LiveIoEnds]),
    ("unlocked_flag_write_requeue_2012.trace", &[ProgramBound::LiveIoEnds]),
    ("convert_after_failed_write.trace", &[ProgramBound::LiveIoEnds]),
    ("unlocked_flag_write_caught.trace", &[ProgramBound::LiveIoEnds]),
    ("unlocked_flag_write_caught_2012.trace", &[ProgramBound::LiveIoEnds]),
    ("convert_after_failed_bio.trace", &[ProgramBound::LiveIoEnds]),
    ("leaked_handle_released.trace", &[ProgramBound::LiveIoEnds]),
    ("missing_bio_swallowed.trace", &[ProgramBound::LiveIoEnds]),
    ("convert_in_irq.trace", &[ProgramBound::LiveIoEnds]),
    ("direct_io_order.trace", &[ProgramBound::OpenDirectIos]),
    ("worker_freed_in_use.trace", &[ProgramBound::LiveIoEnds]),
    ("fsync_before_conversion_queued.trace", &[ProgramBound::LiveIoEnds, ProgramBound::OpenFsyncs]),
    ("conversion_error_hidden.trace", &[ProgramBound::LiveIoEnds, ProgramBound::OpenFsyncs]),
    ("unpinned_inode_destroyed.trace", &[ProgramBound::LiveIoEnds]),
    ("unpinned_inode_queued.trace", &[ProgramBound::LiveIoEnds]),
    ("stuck_conversion.trace", &[ProgramBound::LiveIoEnds, ProgramBound::ListWalk]),
    ("raw_tp_stuck.trace", &[ProgramBound::LiveIoEnds, ProgramBound::ListWalk]),
    ("raw_tp_unpinned_inode.trace", &[ProgramBound::LiveIoEnds, ProgramBound::ListWalk]),
];

/// A fixture's trace with `line` before its first TICK.
fn with(fixture: &str, line: &str) -> Core {
    let text = std::fs::read_to_string(data().join(fixture)).unwrap();
    let (trace, _) = text.split_once("---\n").unwrap();
    let tick = trace.lines().position(|line| line.contains("agent tick")).unwrap();
    let mut lines: Vec<&str> = trace.lines().collect();
    lines.insert(tick, line);
    core(&lines.join("\n"))
}

fn found(core: &Core, rule: Rule) -> usize {
    core.findings.iter().filter(|finding| finding.rule == rule.label()).count()
}

#[test]
fn each_way_is_silenced_by_the_bounds_that_it_rests_on_and_by_no_other() {
    for (detector, way) in DETECTORS.iter().flat_map(|it| it.ways.iter().map(move |way| (it, way)))
    {
        let (rule, fixture) = (detector.rule, way.fixture);
        let row = SILENCED_BY.iter().find(|(name, _)| *name == fixture);
        let (_, silenced_by) = row.unwrap_or_else(|| panic!("{fixture} has no row"));
        let fires = found(&with(fixture, "# nothing"), rule);
        assert!(fires > 0, "{fixture}");
        for bound in ProgramBound::ALL {
            let told = |total| format!("999 agent program_loss {}={total}", bound.label());
            let core = with(fixture, &told(1));
            let silent = silenced_by.contains(&bound);
            let suppressed = core.detectors.tally().suppressed(rule, Suppressed::ProgramBound);
            let expected = if silent { (0, fires as u64) } else { (fires, 0) };
            assert_eq!((found(&core, rule), suppressed), expected, "{fixture} at {bound:?}");
            // A total of nothing says that nothing was left out.
            assert_eq!(found(&with(fixture, &told(0)), rule), fires, "{fixture} at {bound:?}");
        }
    }
}
