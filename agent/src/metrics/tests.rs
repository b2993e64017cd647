//! What a scrape shows and hides, and that every label set stays bounded.

use prometheus::TextEncoder;

use super::labels::{DEVICES_MAX, EVENT_KINDS_MAX};
use super::{IoEndPhase, Kernel, Metrics, Names, Scope};
use crate::devices::Device;
use crate::event::{DevId, Nanos, ProbeId};

const NAMES: Names = Names {
    event_kinds: &["io_end_birth", "put", "tick"],
    states: &["submitting", "queued"],
    rules: &["double_process", "stuck"],
    probes: &["io_end_birth", "claim"],
    tables: &["io_ends"],
    losses: &[("kernel", "ring_full")],
    suppression_reasons: &["loss"],
    degraded_reasons: &["generation", "probe_missing"],
    miss_reasons: &["recursion", "kprobe"],
};

const VDA1: DevId = DevId(254 << 20 | 1);

fn new_metrics() -> Metrics {
    Metrics::new(NAMES).expect("the names fit")
}

fn device(name: &str, mountpoint: &str) -> Device {
    let (name, mountpoint) = (name.to_owned(), mountpoint.to_owned());
    Device { dev: VDA1, disk: "vda".to_owned(), name, mountpoint, uuid: None }
}

#[test]
fn what_is_not_observed_is_absent() {
    let metrics = new_metrics();
    metrics.device(VDA1, Some("vda1")).io_end_started();
    let text = metrics.encode();
    for absent in
        ["io_end", "bios", "direct_io", "fsync", "eviction", "violations", "detector", "missed"]
    {
        assert!(!text.contains(&format!("\nendiod_{absent}")), "{absent} in\n{text}");
    }
    assert!(text.contains("endiod_probe_attached{probe=\"claim\"} 0\n"));
    assert!(text.contains("endiod_events_total{kind=\"tick\"} 0\n"));
    metrics.observing(Scope::IoEnd);
    let text = metrics.encode();
    assert!(text.contains("endiod_io_end_started_total{device=\"vda1\"} 1\n"));
    assert!(!text.contains("endiod_io_end_in_flight"), "nobody said which states can be told");
    metrics.set_in_flight("queued", 0, None);
    let text = metrics.encode();
    assert!(text.contains("endiod_io_end_in_flight{state=\"queued\"} 0\n"));
    assert!(!text.contains("endiod_io_end_oldest_age_seconds"));
}

#[test]
fn armed_rule_starts_at_zero_for_devices_before_and_after() {
    let metrics = new_metrics();
    metrics.device(VDA1, Some("early"));
    metrics.arm_rule("stuck", &["symptom"]);
    metrics.device(VDA1, Some("late"));
    let text = metrics.encode();
    for device in ["early", "late", "~unknown"] {
        let line = format!("{{confidence=\"symptom\",device=\"{device}\",rule=\"stuck\"}} 0\n");
        assert!(text.contains(&line), "{device} in\n{text}");
    }
    assert!(!text.contains("confidence=\"certain\""), "nobody can be that sure");
    assert!(!text.contains("double_process"), "a rule that is not armed is absent");
    metrics.unknown_device().violation("stuck", "symptom", None);
    let line = "{confidence=\"symptom\",device=\"~unknown\",rule=\"stuck\"} 1\n";
    assert!(metrics.encode().contains(line));
}

#[test]
fn devices_beyond_the_bound_share_one_label() {
    let metrics = new_metrics();
    metrics.observing(Scope::IoEnd);
    metrics.unknown_device();
    for minor in 0..DEVICES_MAX + 10 {
        let dev = DevId(u32::try_from(minor).expect("small"));
        metrics.device(dev, (minor > 0).then_some(&format!("d{minor}"))).io_end_started();
    }
    assert_eq!(metrics.device(DevId(0), Some("")).label(), "0:0", "no name, its numbers");
    let text = metrics.encode();
    let started = text.lines().filter(|line| line.starts_with("endiod_io_end_started_total{"));
    assert_eq!(started.count(), DEVICES_MAX + 2);
    assert!(text.contains("endiod_io_end_started_total{device=\"~other\"} 10\n"));
    assert!(text.contains("endiod_table_entries{table=\"metric_devices\"} 64\n"));
}

#[test]
fn facts_are_replaced_not_added() {
    let metrics = new_metrics();
    metrics.set_kernel(Kernel { release: "6.12.1", generation: "G4c" });
    metrics.set_kernel(Kernel { release: "6.12.1", generation: "G4d" });
    metrics.set_devices(&[device("vda1", "/a"), device("vdb1", "/b")]);
    metrics.set_devices(&[device("vdb1", "/c")]);
    metrics.probe_attached(ProbeId(1), "ext4_end_io_rsv_work", "fentry");
    metrics.probe_detached(ProbeId(1));
    metrics.set_degraded("stuck", "probe_missing", true);
    metrics.set_degraded("stuck", "probe_missing", false);
    let text = metrics.encode();
    assert!(text.contains("generation=\"G4d\"") && !text.contains("generation=\"G4c\""));
    assert!(text.contains("mountpoint=\"/c\"") && !text.contains("vda1") && !text.contains("/b"));
    assert!(text.contains("endiod_probe_attached{probe=\"claim\"} 0\n"));
    assert!(!text.contains("endiod_probe_info{") && !text.contains("endiod_detector_degraded{"));
}

#[test]
fn names_beyond_a_bound_or_twice_are_refused() {
    let kinds: Vec<&str> = (0..=EVENT_KINDS_MAX).map(|kind| kind.to_string().leak() as _).collect();
    let error = Metrics::new(Names { event_kinds: kinds.leak(), ..NAMES }).err();
    let error = error.expect("one too many").to_string();
    assert!(error.contains("event_kinds has 65 names") && error.contains("64"), "{error}");
    let error = Metrics::new(Names { rules: &["stuck", "stuck"], ..NAMES }).err();
    assert_eq!(error.expect("twice").to_string(), "rules has \"stuck\" twice");
}

#[test]
fn text_is_that_of_the_crates_own_encoder() {
    let metrics = new_metrics();
    Scope::ALL.into_iter().for_each(|scope| metrics.observing(scope));
    metrics.arm_rule("stuck", &["symptom"]);
    metrics.set_devices(&[device("vda1", "a\\b\"c\nd")]);
    metrics.set_in_flight("queued", 1 << 53, Some(Nanos(1_234_567_891)));
    for device in [metrics.device(VDA1, Some("vda1")), metrics.unknown_device()] {
        device.direct_io(Nanos(1));
        device.io_end_phase(IoEndPhase::Queue, Nanos(u64::MAX));
        device.io_end_started();
    }
    let families = metrics.gather();
    let theirs = TextEncoder::new().encode_to_string(&families).expect("consistent families");
    assert_eq!(super::text::encode(&families), theirs);
    assert!(theirs.contains(r#"mountpoint="a\\b\"c\nd""#), "{theirs}");
}
