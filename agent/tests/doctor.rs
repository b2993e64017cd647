//! The doctor on hosts that are directories: what it says, and that it never says "no" where it could
//! not tell. The golden page is `tests/data/doctor/page.txt`; `ENDIOD_BLESS=1` writes it anew.

#[path = "support/fake_host.rs"]
mod fake_host;

use std::{collections::BTreeSet, fs, path::Path};

use endiod::{
    devices::{Device, Found},
    doctor::{
        Answer, Arming, Attempt, BASIC, BtfFacts, Ext4Code, Facts, ProbeVerdict, Report, SCHEMA,
        examine, gather,
    },
    event::{Backend, DevId},
    generation::Upstream,
    host::Preemption,
    probes::{PROBES, Presence, Probe, Witness},
    source::kernel::{Absence, Choice, DryRun, OLDEST, Verdict},
};

use fake_host::FakeHost;

/// A Debian 6.1 on which everything attaches that exists.
fn facts() -> Facts {
    let absent = ["ext4_end_io_end", "filemap_writeback", "__blk_crypto_submit_bio"];
    let functions: BTreeSet<_> =
        PROBES.iter().map(|probe| probe.function).filter(|name| !absent.contains(name)).collect();
    let verdict = |probe: &Probe| match (probe.presence, probe.hook.backend(), probe.witness) {
        (Presence::Some(on), _, _) if absent.contains(&probe.function) => {
            Verdict::Absent(Absence::NotHere(on.into()))
        }
        (_, Backend::Fentry | Backend::Watchpoint, _) => Verdict::Attached,
        (_, _, Witness::BioDone | Witness::WorkQueued) => {
            Verdict::Absent(Absence::NotNeeded("fentry sees it".into()))
        }
        _ => Verdict::Absent(Absence::Served { by: Backend::Fentry, refused: None }),
    };
    Facts {
        release: "6.1.0-56-cloud-amd64".to_owned(),
        upstream: Upstream { series: (6, 1), patch: Some(192), vendor: true, ubuntu_build: None },
        preemption: Preemption::No("voluntary"),
        btf: Ok(BtfFacts {
            size_bytes: 5_515_236,
            module_size_bytes: None,
            describes_ext4: true,
            functions,
        }),
        ext4: Ext4Code::BuiltIn,
        io_end_bytes: Some(64),
        lockdown: Some("none".to_owned()),
        kptr_restrict: Some(0),
        unprivileged_bpf_disabled: Some(2),
        security_modules: Some(vec!["capability".to_owned(), "lockdown".to_owned()]),
        missing_capability: None,
        addresses_shown: true,
        attempt: Attempt::Tried(DryRun {
            verdicts: PROBES.iter().map(verdict).collect(),
            misses_counted: Some(true),
            kprobe_misses_counted: None,
        }),
        devices: Ok(Found {
            devices: vec![Device {
                dev: DevId(254 << 20 | 1),
                name: "vda1".to_owned(),
                disk: "vda".to_owned(),
                mountpoint: "/srv/a mount point".to_owned(),
                uuid: None,
            }],
            left_out: 0,
        }),
    }
}

/// The same host, some probes refused.
fn refusing(refused: impl Fn(&str) -> Option<String>) -> Facts {
    let mut facts = facts();
    let Attempt::Tried(tried) = &mut facts.attempt else { unreachable!("it was tried") };
    for (probe, verdict) in PROBES.iter().zip(&mut tried.verdicts) {
        if let (Verdict::Attached, Some(reason)) = (&*verdict, refused(probe.program)) {
            *verdict = Verdict::Failed(reason);
        }
    }
    facts
}

/// One refused probe, a whole span without its end, a module, a preemptible kernel.
fn troubled() -> Facts {
    let log = "the BPF_PROG_LOAD syscall returned Invalid argument (os error 22). Verifier output: \
               reg type unsupported";
    Facts {
        preemption: Preemption::Yes("full"),
        ext4: Ext4Code::Module { references: Some(3), holders: vec!["backup".to_owned()] },
        ..refusing(|program| (program == "ext4_sync_file_exit").then(|| log.to_owned()))
    }
}

/// Another back end serves what fentry is refused, as far as it can.
fn served_by(backend: Backend) -> Facts {
    let mut facts = facts();
    let Attempt::Tried(tried) = &mut facts.attempt else { unreachable!("it was tried") };
    let serves =
        |witness| PROBES.iter().any(|row| row.witness == witness && row.hook.backend() == backend);
    let reason = || "EPERM. Verifier output:".to_owned();
    tried.kprobe_misses_counted = (backend == Backend::Kprobe).then_some(false);
    for (probe, verdict) in PROBES.iter().zip(&mut tried.verdicts) {
        *verdict = match (&*verdict, probe.hook.backend() == backend, serves(probe.witness)) {
            (Verdict::Absent(Absence::NotHere(_)), ..) => continue,
            (_, true, _) => Verdict::Attached,
            (_, false, true) => {
                Verdict::Absent(Absence::Served { by: backend, refused: Some(reason()) })
            }
            (_, false, false) => Verdict::Failed(reason()),
        };
    }
    facts
}

#[test]
fn raw_tracepoints_meet_basic_and_not_full_and_say_what_they_cost() {
    let report = examine(&served_by(Backend::RawTracepoint));
    assert_eq!((report.basic.answer, report.full.answer), (Answer::Meets, Answer::Lacks));
    let page = report.to_string();
    for words in ["fentry       refused: EPERM", "raw_tp       10 probes", "every slab allocation"]
    {
        assert!(page.contains(words), "the page does not say {words:?}:\n{page}");
    }
    assert!(!page.contains("kprobe_"), "{page}");
}

#[test]
fn kprobes_meet_neither_and_say_that_they_miss_uncounted() {
    let report = examine(&served_by(Backend::Kprobe));
    assert_eq!((report.basic.answer, report.full.answer), (Answer::Lacks, Answer::Lacks));
    assert_eq!(report.programs.kprobe_misses_counted, Some(false), "a 6.1");
    let page = report.to_string();
    assert!(page.contains("no verdict is certain"), "{page}");
    assert!(page.contains("those of kprobes are not counted"), "{page}");
}

#[test]
fn a_back_end_that_was_not_asked_for_does_not_meet_full() {
    let mut facts = served_by(Backend::RawTracepoint);
    let Attempt::Tried(tried) = &mut facts.attempt else { unreachable!("it was tried") };
    for verdict in &mut tried.verdicts {
        if !matches!(verdict, Verdict::Attached) {
            *verdict = Verdict::Absent(Absence::NotAsked("--backend raw_tp".into()));
        }
    }
    let report = examine(&facts);
    assert_eq!((report.basic.answer, report.full.answer), (Answer::Meets, Answer::Lacks));
}

/// A Debian 5.10 whose ext4 is a module: the kernel's own functions by fentry, ext4's by what else there is.
fn undescribed() -> Facts {
    let mut facts = facts();
    let Attempt::Tried(tried) = &mut facts.attempt else { unreachable!("it was tried") };
    let server = |row: &Probe| {
        let mut rows = PROBES.iter().filter(|it| it.witness == row.witness);
        if rows.any(|it| it.hook.backend() == Backend::Fentry && !it.is_ext4()) {
            return Some(Backend::Fentry);
        }
        let by =
            |backend| move |it: &Probe| it.witness == row.witness && it.hook.backend() == backend;
        [Backend::RawTracepoint, Backend::Kprobe].into_iter().find(|it| PROBES.iter().any(by(*it)))
    };
    for (probe, verdict) in PROBES.iter().zip(&mut tried.verdicts) {
        let backend = probe.hook.backend();
        let refused = "ext4 is a module without BTF, which no tracing program reaches".to_owned();
        *verdict = match (&*verdict, server(probe)) {
            (Verdict::Absent(Absence::NotHere(_)), _) => continue,
            _ if probe.program == "kprobe_ext4_end_io_end" => {
                Verdict::Absent(Absence::NotHere("a function of its own from 6.15".into()))
            }
            _ if probe.program == "kprobe_ext4_end_bio" => Verdict::Absent(Absence::NotNeeded(
                "the device is seen to be done with every bio".into(),
            )),
            (_, Some(by)) if by == backend => Verdict::Attached,
            (_, Some(by)) if backend != Backend::Fentry => {
                Verdict::Absent(Absence::Served { by, refused: None })
            }
            _ if probe.program == "ext4_end_bio" => Verdict::Absent(Absence::Served {
                by: Backend::RawTracepoint,
                refused: Some(refused),
            }),
            (_, Some(by)) => Verdict::Absent(Absence::Served { by, refused: Some(refused) }),
            _ => Verdict::Failed(refused),
        };
    }
    (tried.misses_counted, tried.kprobe_misses_counted) = (Some(false), Some(false));
    Facts {
        release: "5.10.0-46-amd64".to_owned(),
        upstream: Upstream { series: (5, 10), patch: Some(262), vendor: true, ubuntu_build: None },
        btf: facts.btf.map(|btf| BtfFacts { describes_ext4: false, ..btf }),
        ext4: Ext4Code::Module { references: Some(1), holders: Vec::new() },
        ..facts
    }
}

#[test]
fn a_module_without_btf_meets_basic_and_says_what_is_assumed_in_its_place() {
    let report = examine(&undescribed());
    assert_eq!((report.basic.answer, report.full.answer), (Answer::Meets, Answer::Lacks));
    assert_eq!(report.full.why[0], "ext4 is a module without BTF");
    assert!(report.rules.iter().all(|rule| rule.verdict != Arming::Armed), "{report}");
    let layout = report.kernel.ext4_layout.expect("it is assumed");
    assert!(layout.contains("64 bytes long") && layout.contains("first bio"), "{layout}");
    let unshown = examine(&Facts { io_end_bytes: None, ..undescribed() });
    let layout = unshown.kernel.ext4_layout.expect("it is assumed");
    assert!(layout.contains("this kernel does not show"), "{layout}");
    for attempt in [Attempt::Skipped, Attempt::Impossible("72 bytes".to_owned())] {
        let is_impossible = attempt != Attempt::Skipped;
        let report = examine(&Facts { attempt, ..undescribed() });
        assert_eq!(report.kernel.ext4_layout.is_none(), is_impossible, "{report}");
    }
    assert!(examine(&facts()).kernel.ext4_layout.is_none(), "BTF describes it");
}

#[test]
fn the_golden_page() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/doctor/page.txt");
    let pages = [facts(), troubled(), served_by(Backend::RawTracepoint), undescribed()];
    let pages = pages.map(|facts| examine(&facts).to_string());
    let page = pages.join(&format!("\n{}\n", "=".repeat(100)));
    if std::env::var_os("ENDIOD_BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("it is in a directory")).expect("the tree is ours");
        fs::write(&path, &page).expect("the tree is ours");
    }
    let golden = fs::read_to_string(&path).expect("run with ENDIOD_BLESS=1 once");
    assert!(page == golden, "the page changed, see it with ENDIOD_BLESS=1:\n{page}");
}

#[test]
fn no_line_is_wider_than_100_columns() {
    let long = "x".repeat(300);
    let refusing = refusing(|program| Some(format!("{long} {program}")));
    for facts in [facts(), troubled(), undescribed(), refusing] {
        let page = examine(&facts).to_string();
        let wide = page.lines().find(|line| line.chars().count() > 100);
        assert_eq!(wide, None);
        assert!(page.lines().all(|line| line == line.trim_end()), "trailing blanks");
        assert!(!page.contains('\u{1b}'), "colours");
    }
}

#[test]
fn the_json_page_comes_back_as_it_was() {
    for facts in [facts(), troubled(), undescribed()] {
        let report = examine(&facts);
        let json = serde_json::to_string(&report).expect("plain data");
        assert!(json.starts_with(&format!("{{\"schema\":{SCHEMA},")), "{json}");
        let back: Report = serde_json::from_str(&json).expect("it was just written");
        assert_eq!(back, report);
    }
}

#[test]
fn what_attaches_meets_full() {
    let report = examine(&facts());
    assert_eq!(report.basic.answer, Answer::Meets);
    assert_eq!(report.full.answer, Answer::Meets);
    assert!(report.rules.iter().all(|rule| rule.verdict == Arming::Armed));
    assert_eq!(report.kernel.generations, ["G4c"]);
    assert_eq!(report.fix, None);
}

#[test]
fn a_missing_end_of_a_span_degrades_its_beginning_and_both_requirements() {
    let report = examine(&troubled());
    let verdict = |program: &str| {
        report.probes.iter().find(|probe| probe.program == program).map(|probe| probe.verdict)
    };
    assert_eq!(verdict("ext4_sync_file_exit"), Some(ProbeVerdict::Missing));
    assert_eq!(verdict("ext4_sync_file"), Some(ProbeVerdict::Degraded));
    assert_eq!(report.basic.answer, Answer::Lacks);
    assert_eq!(report.full.answer, Answer::Lacks);
}

#[test]
fn a_phase_probe_is_not_basic_and_a_birth_disarms_every_rule() {
    let refused = |program: &'static str| {
        examine(&refusing(move |of| (of == program).then(|| "no".to_owned())))
    };
    let phase = refused("blkdev_issue_flush");
    assert_eq!((phase.basic.answer, phase.full.answer), (Answer::Meets, Answer::Lacks));
    let birth = refused("ext4_init_io_end_exit");
    // A direct write has no io_end.
    let of_io_ends = || birth.rules.iter().filter(|rule| rule.rule != "direct_io_order");
    assert!(of_io_ends().all(|rule| rule.verdict == Arming::Off));
    assert!(of_io_ends().all(|rule| rule.lacks.contains(&"ext4_init_io_end".to_owned())));
}

#[test]
fn a_locked_down_kernel_is_named_as_the_cause() {
    let report = examine(&Facts {
        lockdown: Some("confidentiality".to_owned()),
        ..refusing(|program| Some(format!("EPERM. Verifier output: {program}")))
    });
    assert_eq!(report.basic.answer, Answer::Lacks);
    assert!(report.fix.as_deref().is_some_and(|fix| fix.contains("locked down")));
    let page = report.to_string();
    assert!(
        page.contains("all of them  EPERM; the verifier's words are in --format json"),
        "{page}"
    );
}

#[test]
fn what_was_not_tried_is_unknown_and_not_lacking() {
    let not_permitted = Attempt::NotPermitted("no CAP_BPF".to_owned());
    for attempt in [Attempt::Skipped, not_permitted] {
        let report = examine(&Facts { attempt, ..facts() });
        assert_eq!(report.basic.answer, Answer::Unknown);
        assert_eq!(report.full.answer, Answer::Unknown);
        assert!(report.rules.iter().all(|rule| rule.verdict == Arming::NotTried));
        let absent = |probe: &&endiod::doctor::Probe| probe.verdict == ProbeVerdict::NotNeeded;
        assert_eq!(report.probes.iter().filter(absent).count(), 6, "known without trying");
    }
    let impossible = Attempt::Impossible("no BTF".to_owned());
    let report = examine(&Facts { attempt: impossible, btf: Err("no BTF".to_owned()), ..facts() });
    assert_eq!(report.full.answer, Answer::Lacks, "the host itself lacks it");
}

#[test]
fn basic_asks_for_what_fentry_sees_on_every_kernel() {
    for witnesses in BASIC {
        let by_fentry = |probe: &&Probe| {
            witnesses.contains(&probe.witness) && probe.hook.backend() == Backend::Fentry
        };
        let mut rows = PROBES.iter().filter(by_fentry);
        assert!(rows.any(|probe| probe.presence == Presence::Always), "{witnesses:?}");
    }
}

/// A host with one ext4 mounted.
fn fake(name: &str, release: &str) -> FakeHost {
    let fake = FakeHost::new(&format!("doctor-{name}"), release);
    fake.write("proc/self/mountinfo", "27 1 254:0 / / rw - ext4 /dev/vda rw\n");
    fake
}

#[test]
fn an_old_kernel_cannot_be_told_and_says_why() {
    for release in ["4.19.0-27-amd64\n", "5.7.9\n"] {
        let error = gather(&fake("old", release).host(), Some(Choice::default()))
            .expect_err("it is too old");
        let error = error.to_string();
        let (major, minor) = OLDEST;
        for word in [release.trim(), "too old", &format!("{major}.{minor}")] {
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }
}

#[test]
fn a_host_without_btf_still_has_a_page() {
    let fake = fake("no-btf", "6.12.0-1-amd64\n");
    fake.write(
        "proc/version",
        "Linux version 6.12.0-1-amd64 (b) #1 SMP PREEMPT_RT Debian 6.12.95-1",
    );
    fake.write("proc/sys/kernel/kptr_restrict", "1\n");
    fake.write("sys/kernel/security/lsm", "lockdown,capability,apparmor");
    fake.write("sys/module/ext4/initstate", "live\n");
    fake.write("sys/module/ext4/refcnt", "2\n");
    let report = examine(&gather(&fake.host(), Some(Choice::default())).expect("it is new enough"));
    let page = report.to_string();
    for words in [
        "6.12.95",
        "G4d",
        "real time",
        "kptr_restrict 1, unprivileged_bpf_disabled not shown",
        "lockdown capability apparmor",
        "2 references, 1 mounted devices here",
    ] {
        assert!(page.contains(words), "the page does not say {words:?}:\n{page}");
    }
    assert!(!report.probes.iter().any(|probe| probe.verdict == ProbeVerdict::Ok));
    assert_ne!(report.basic.answer, Answer::Meets);
}

#[test]
fn who_may_not_load_programs_is_told_to_be_root() {
    let fake = fake("caps", "6.1.0-56-cloud-amd64\n");
    fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t0000000000000000\n");
    // A header and nothing else: readable type information, as every user has it.
    let header: [u32; 6] = [0x0001_eb9f, 24, 0, 0, 0, 1];
    let mut btf: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    btf.push(0);
    fake.write("sys/kernel/btf/vmlinux", btf);
    let report = examine(&gather(&fake.host(), Some(Choice::default())).expect("it is new enough"));
    if endiod::source::kernel::object((6, 1)).is_none() {
        assert!(std::env::var_os("ENDIOD_REQUIRE_PROGRAMS").is_none(), "built without programs");
        eprintln!("built without programs: nothing else can be refused");
        return;
    }
    assert_eq!(report.basic.answer, Answer::Unknown, "{report}");
    assert!(report.to_string().contains("sudo endiod doctor"), "{report}");
}
