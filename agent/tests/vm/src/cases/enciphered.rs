//! What raw tracepoints tell of the bios of enciphered files, held against what functions tell.
//!
//! ```text
//!  6.1:  ext4 enciphers pages ─► submit_bio ─► block_bio_queue ─► … ─► block_rq_complete ─► ext4_end_bio
//!  7.3:  __blk_crypto_submit_bio ─► (a copy: submit_bio ─► … ─► block_rq_complete) ─► ext4_end_bio
//! ```
//!
//! Of a copy no io_end can be told, and of the original no tracepoint tells.

use anyhow::{Context as _, Result, ensure};

use super::{backends::missed_by, conservation::settled_scrape};
use crate::{
    Facts, Guest,
    agent::{Agent, LISTEN, LISTEN_TOO},
    disk, fscrypt, http,
    workload::{stress_in, sync},
};

/// Who tells that a bio is attached, and that it is over.
const PROGRAMS: [&[&str]; 2] = [
    &["submit_bio", "__blk_crypto_submit_bio", "tp_block_bio_queue"],
    &["ext4_end_bio", "tp_block_rq_complete", "tp_block_bio_complete"],
];

/// Bios attached so far, and over so far, by fentry and by raw tracepoints.
#[derive(Clone, Copy, Debug, Default)]
struct Bios {
    attached: [f64; 2],
    over: [f64; 2],
}

impl Bios {
    fn of(agents: [&Agent; 2]) -> Result<Bios> {
        let mut bios = Bios::default();
        for (at, (agent, end)) in agents.into_iter().zip(["bio_end", "bio_done"]).enumerate() {
            let scrape = settled_scrape(agent)?;
            let events = |kind: &str| {
                http::sum_with(&scrape, "endiod_events_total", &format!("kind=\"{kind}\""))
            };
            (bios.attached[at], bios.over[at]) = (events("bio_attach"), events(end));
        }
        Ok(bios)
    }

    fn since(self, before: Bios) -> Bios {
        let less = |now: [f64; 2], then: [f64; 2]| [now[0] - then[0], now[1] - then[1]];
        let attached = less(self.attached, before.attached);
        Bios { attached, over: less(self.over, before.over) }
    }
}

/// Writes enciphered files under both back ends, then others beside them.
pub(crate) fn by_raw_tracepoints(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let device = std::path::Path::new("/dev/vdb");
    disk::make(device, "-t ext4 -b 4096 -O encrypt")?;
    let mounted = disk::mount(device, "enciphered", "ext4", "")?;
    let dirs = ["enciphered", "plain"].map(|name| mounted.dir().join(name));
    for dir in &dirs {
        std::fs::create_dir(dir)?;
    }
    fscrypt::encrypt(mounted.dir(), &dirs[0])?;
    sync();
    let fentry = Agent::start_at(LISTEN, &["--backend", "fentry"])?;
    let raw = Agent::start_at(LISTEN_TOO, &["--backend", "raw_tp"])?;
    let mut seen = vec![Bios::default()];
    for dir in &dirs {
        stress_in(dir, 4, &["--buffered", "-t", "4", "-s", "2", "-S", "-o", "2"])?;
        sync();
        seen.push(Bios::of([&fentry, &raw])?);
    }
    mounted.unmount()?;
    let raw = raw.stop(guest, "enciphered_raw_tp")?;
    let fentry = fentry.stop(guest, "enciphered_fentry")?.summary;
    let missed = PROGRAMS.map(|programs| missed_by(programs, [&fentry, &raw.summary]));
    facts.insert("missed".into(), missed.to_vec().into());
    let (enciphered, plain) = (seen[1].since(seen[0]), seen[2].since(seen[1]));
    for (name, bios) in [("enciphered", enciphered), ("plain", plain)] {
        facts.insert(format!("{name} bios"), bios.attached.to_vec().into());
        ensure!(bios.attached[0] > 0.0, "no bio was attached: this run proves nothing");
    }
    let hidden = hides_originals(&guest.kernel);
    if hidden {
        let told = [enciphered.attached[1], enciphered.over[1]];
        ensure!(told == [0.0; 2], "raw tracepoints tell of enciphered bios: {enciphered:?}");
        let word = "bio of an enciphered file attached";
        ensure!(raw.log.contains(word), "nobody is told what is not seen:\n{}", raw.log);
    }
    for (name, bios) in [("enciphered", enciphered), ("plain", plain)] {
        if !(hidden && name == "enciphered") {
            agree(bios, missed).context(name)?;
        }
    }
    for summary in [&fentry, &raw.summary] {
        let found = &summary.findings;
        ensure!(found.is_empty(), "findings on a healthy kernel: {found:?}");
    }
    Ok(())
}

/// Kernels of the harness on which the bios that ext4 submits for an enciphered file go no further than
/// `__blk_crypto_submit_bio`.
fn hides_originals(kernel: &str) -> bool {
    ["7.3", "latest"].contains(&kernel)
}

/// Both tell the same, but for hits that the kernel skipped.
fn agree(bios: Bios, missed: [u64; 2]) -> Result<()> {
    for ([fentry, raw], missed) in [bios.attached, bios.over].into_iter().zip(missed) {
        ensure!(
            (fentry - raw).abs() <= missed as f64,
            "fentry saw {fentry} of them, raw tracepoints {raw}, {missed} hits skipped: {bios:?}"
        );
    }
    Ok(())
}
