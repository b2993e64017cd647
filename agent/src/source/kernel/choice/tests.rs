//! The choice on kernels that refuse this or that.

use std::cell::RefCell;

use super::*;

fn verdict<'a>(verdicts: &'a [Verdict], program: &str) -> &'a Verdict {
    let at = PROBES.iter().position(|probe| probe.program == program).unwrap();
    &verdicts[at]
}

fn refusing(backends: &[Backend], choice: Choice) -> (Vec<Verdict>, Vec<&'static str>) {
    let tried = RefCell::new(Vec::new());
    let verdicts = choose(
        choice,
        |_| true,
        |probe| {
            let at = PROBES.iter().position(|row| row.program == probe.program).unwrap();
            tried.borrow_mut().push(PROBES[at].program);
            match backends.contains(&probe.hook.backend()) {
                true => Err("EPERM. Verifier output: ".to_owned() + probe.program),
                false => Ok(()),
            }
        },
    );
    (verdicts, tried.into_inner())
}

#[test]
fn where_fentry_is_taken_nothing_else_is_tried() {
    let (verdicts, tried) = refusing(&[], Choice::default());
    for (probe, verdict) in PROBES.iter().zip(&verdicts) {
        let first = matches!(probe.hook.backend(), Backend::Fentry | Backend::Watchpoint);
        assert_eq!(*verdict == Verdict::Attached, first, "{}", probe.program);
        assert_eq!(tried.contains(&probe.program), first);
    }
    assert!(lost(&verdicts).is_empty());
}

#[test]
fn births_come_last_and_ends_before_begins() {
    let (_, tried) = refusing(&[Backend::Fentry, Backend::Kprobe], Choice::default());
    let place = |program: &str| tried.iter().position(|name| *name == program).unwrap();
    assert_eq!(tried.last(), Some(&"tp_kmem_cache_alloc"));
    for (first, second) in [
        ("tp_ext4_sync_file_exit", "tp_ext4_sync_file_enter"),
        ("tp_workqueue_execute_end", "tp_workqueue_execute_start"),
        ("tp_kmem_cache_free", "tp_block_bio_queue"),
        ("tp_block_rq_complete", "tp_block_bio_queue"),
    ] {
        assert!(place(first) < place(second), "{first} after {second}");
    }
}

#[test]
fn a_back_end_refused_for_one_reason_is_not_tried_to_its_end() {
    let (verdicts, tried) = refusing(&[Backend::Fentry, Backend::Kprobe], Choice::default());
    let others = ["tp_", "kprobe_", "watch_"];
    let fentry = |name: &&&str| {
        !others.iter().any(|begin| name.starts_with(begin)) && !name.ends_with("_watch")
    };
    assert_eq!(tried.iter().filter(fentry).count(), REFUSALS_MAX);
    let birth = verdict(&verdicts, "ext4_init_io_end_exit");
    let Verdict::Absent(absence) = birth else { panic!("{birth:?}") };
    assert_eq!(absence.to_string(), "refused: EPERM; raw_tp in its place");
    assert!(matches!(verdict(&verdicts, "ext4_put_io_end"), Verdict::Failed(_)));
    let lost = lost(&verdicts);
    let lost: Vec<_> = lost.iter().map(|(probe, _)| probe.program).collect();
    assert!(lost.contains(&"ext4_put_io_end") && !lost.contains(&"submit_bio"), "{lost:?}");
}

#[test]
fn only_what_fentry_does_not_see_is_stood_in_for() {
    let tried = RefCell::new(Vec::new());
    let verdicts = choose(
        Choice::default(),
        |_| true,
        |probe| {
            tried.borrow_mut().push(probe.program.to_owned());
            match probe.program {
                "ext4_end_bio" => Err("no".to_owned()),
                _ => Ok(()),
            }
        },
    );
    assert_eq!(*verdict(&verdicts, "tp_block_rq_complete"), Verdict::Attached);
    let end = verdict(&verdicts, "ext4_end_bio");
    assert!(matches!(end, Verdict::Absent(Absence::Served { by: Backend::RawTracepoint, .. })));
    assert!(lost(&verdicts).is_empty(), "the device's end of a bio is one");
    // A kprobe loses hits, and that would leave bios open for ever.
    assert!(matches!(
        verdict(&verdicts, "kprobe_ext4_end_bio"),
        Verdict::Absent(Absence::NotNeeded(_))
    ));
    assert_ne!(*verdict(&verdicts, "tp_workqueue_queue_work"), Verdict::Attached);
    assert_ne!(*verdict(&verdicts, "tp_kmem_cache_free"), Verdict::Attached);
}

/// Else whoever enters one would be told to wait in it for ever.
#[test]
fn evictions_are_seen_to_end_or_not_at_all() {
    let without_exit = |probe: &Probe| match probe.program {
        "ext4_evict_inode_exit" => Err("no".to_owned()),
        _ => Ok(()),
    };
    let verdicts = choose(Choice::default(), |_| true, without_exit);
    assert!(matches!(verdict(&verdicts, "ext4_evict_inode"), Verdict::Failed(_)));
    let lost = lost(&verdicts);
    let lost: Vec<_> = lost.iter().map(|(probe, _)| probe.program).collect();
    assert_eq!(lost, ["ext4_evict_inode", "ext4_evict_inode_exit"]);
}

#[test]
fn a_forced_back_end_is_the_only_one_and_the_rest_is_lost() {
    let choice = Choice {
        backend: Some(Backend::RawTracepoint),
        slab_tracepoints: false,
        watchpoints: 0,
        ..Choice::default()
    };
    let (verdicts, tried) = refusing(&[], choice);
    assert!(tried.iter().all(|name| name.starts_with("tp_") && !name.contains("kmem")));
    let lost = lost(&verdicts);
    for program in ["ext4_init_io_end_exit", "ext4_put_io_end", "ext4_release_io_end"] {
        assert!(lost.iter().any(|(probe, _)| probe.program == program), "{program}");
    }
    assert!(!lost.iter().any(|(probe, _)| probe.witness == Witness::FsyncBegin));
}

const ENCIPHERED: [&str; 2] = ["__blk_crypto_submit_bio", "kprobe_blk_crypto_submit_bio"];

/// What becomes of all probes where some are refused and some functions do not exist.
fn with(refused: &[&str], missing: &[&str], backend: Option<Backend>) -> Vec<Verdict> {
    choose(
        Choice { backend, ..Choice::default() },
        |probe| !missing.contains(&probe.function),
        |probe| match refused.contains(&probe.program) {
            true => Err("no".to_owned()),
            false => Ok(()),
        },
    )
}

#[test]
fn enciphered_bios_are_watched_beside_the_others_and_not_in_their_place() {
    let verdicts = with(&[], &[], None);
    for program in ["submit_bio", "__blk_crypto_submit_bio"] {
        assert_eq!(*verdict(&verdicts, program), Verdict::Attached, "{program}");
    }
    // Refused by fentry, a kprobe may see them although fentry sees the others.
    let verdicts = with(&["__blk_crypto_submit_bio"], &[], None);
    assert_eq!(*verdict(&verdicts, "submit_bio"), Verdict::Attached);
    assert_eq!(*verdict(&verdicts, "kprobe_blk_crypto_submit_bio"), Verdict::Attached);
    // And if nobody does, that is said.
    let lost = lost(&with(&ENCIPHERED, &[], None));
    let lost: Vec<_> = lost.iter().map(|(probe, _)| probe.program).collect();
    assert_eq!(lost, ["__blk_crypto_submit_bio"]);
}

#[test]
fn where_raw_tracepoints_see_the_bios_enciphered_ones_are_lost_and_that_is_said() {
    for (refused, backend) in [(&["submit_bio"][..], None), (&[][..], Some(Backend::RawTracepoint))]
    {
        let verdicts = with(refused, &[], backend);
        assert_eq!(*verdict(&verdicts, "tp_block_bio_queue"), Verdict::Attached);
        for program in ENCIPHERED {
            assert_ne!(*verdict(&verdicts, program), Verdict::Attached, "{program}");
        }
        let lost = lost(&verdicts);
        assert!(lost.iter().any(|(probe, _)| probe.program == ENCIPHERED[0]), "{refused:?}");
    }
}

#[test]
fn a_function_that_this_kernel_need_not_have_is_no_loss_with_any_back_end() {
    for backend in [None, Some(Backend::RawTracepoint), Some(Backend::Kprobe)] {
        let verdicts = with(&[], &["__blk_crypto_submit_bio"], backend);
        for program in ENCIPHERED {
            let found = verdict(&verdicts, program);
            assert!(matches!(found, Verdict::Absent(Absence::NotHere(_))), "{found:?}");
        }
        let lost = lost(&verdicts);
        assert!(!lost.iter().any(|(probe, _)| ENCIPHERED.contains(&probe.program)));
    }
}

#[test]
fn the_replica_takes_fentry_alone_and_what_it_lacks_is_no_loss() {
    let choice = Choice { subject: Subject::Replica, ..Choice::default() };
    let (verdicts, tried) = refusing(&[], choice);
    assert!(tried.iter().all(|name| !name.starts_with("tp_") && !name.starts_with("kprobe_")));
    for program in ["ext4_init_io_end_exit", "submit_bio", "ext4_release_io_end"] {
        assert_eq!(*verdict(&verdicts, program), Verdict::Attached, "{program}");
    }
    let absent = verdict(&verdicts, "ext4_dio_write_end_io");
    assert!(matches!(absent, Verdict::Absent(Absence::NotHere(_))), "{absent:?}");
    assert!(lost(&verdicts).is_empty());
}
