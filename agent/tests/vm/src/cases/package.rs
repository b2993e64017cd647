//! The Debian package on a Debian of its own: by its own scripts, in its unit's sandbox, with the kernel's
//! settings as Debian leaves them.
//!
//! ```text
//!  dpkg -i ─► watches ─► SIGHUP ─► dpkg -i (a newer one) ─► dpkg -r ─► dpkg -P
//!             scraped              settings kept  │         findings    nothing left
//!                                                 └ stopped dead: systemd starts it again
//! ```

mod unit;

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::unit::{Journal, UNIT, property, told};
use super::{keep, stop};
use crate::{
    Facts, Guest,
    agent::LISTEN,
    disk, http,
    patience::until,
    workload::{stress_in, sync},
};

/// The same program in two packages; the second has another version and one more line of settings.
pub(super) const FIRST: &str = "/in/packages/first.deb";
pub(super) const NEXT: &str = "/in/packages/next.deb";
const CONFIG: &str = "/etc/endiod.toml";
/// The newer settings, where they were changed here.
const CONFIG_NEXT: &str = "/etc/endiod.toml.dpkg-dist";
const FINDINGS: &str = "/var/lib/endiod/findings";
/// What an administrator adds to the unit.
const DROP_INS: &str = "/etc/systemd/system/endiod.service.d";
/// How long what was asked for may take under emulation.
const PATIENCE: Duration = Duration::from_secs(90);
/// The unit's exposure by systemd's own count, in tenths: more is a loss.
const EXPOSURE_MAX: &str = "27";

/// From the first installation to the last trace.
pub(crate) fn lives_and_leaves_nothing(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let result = life(guest, facts);
    if let Ok(journal) = told("journalctl", &["--output", "short-monotonic", "--no-pager"]) {
        fs::write(guest.out.join("package.journal"), journal)?;
    }
    result
}

fn life(guest: &Guest, facts: &mut Facts) -> Result<()> {
    let uuid = announce_disk()?;
    allow_an_emulated_cpu()?;
    let before = stop::programs();
    let mut journal = Journal::follow()?;
    let (version, probes) = install(&[FIRST], &mut journal)?;
    serves(guest, &uuid, probes, facts)?;
    keeps_a_slice(facts)?;
    facts.insert("exposure".into(), exposure()?.into());
    reload(&mut journal)?;
    upgrade(&version, &mut journal)?;
    let wrong = journal.said.lines().find(|line| line.contains("WARN") || line.contains("ERROR"));
    ensure!(wrong.is_none(), "it complained: {}", wrong.unwrap_or_default());
    is_started_again()?;
    remove()?;
    stop::drained_to(before)?;
    told("dpkg", &["--purge", "endiod"])?;
    fs::remove_dir_all(DROP_INS)?;
    told("systemctl", &["daemon-reload"])?;
    ensure!(property("LoadState")? == "not-found", "the unit is known after the purge");
    let left = named_endiod(Path::new("/"))?;
    ensure!(left.is_empty(), "the purge leaves {left:?}");
    Ok(())
}

/// Lets the unit take what time it needs here: a CPU that is emulated does in a second what others do in fifty
/// milliseconds. As an administrator would, and undone with the package.
fn allow_an_emulated_cpu() -> Result<()> {
    fs::create_dir_all(DROP_INS)?;
    fs::write(
        Path::new(DROP_INS).join("emulated.conf"),
        "[Service]\nEnvironment=ENDIOD_CPU_MAX=0\n",
    )?;
    Ok(())
}

/// Links the disk by its UUID, which udev does elsewhere: it is not among the packages of this guest.
fn announce_disk() -> Result<String> {
    let uuid = told("blkid", &["--match-tag", "UUID", "--output", "value", "/dev/vda"])?;
    let uuid = uuid.trim().to_owned();
    fs::create_dir_all("/dev/disk/by-uuid")?;
    symlink("../../vda", Path::new("/dev/disk/by-uuid").join(&uuid))?;
    Ok(uuid)
}

/// Returns, once it watches, what version is installed, and how many probes are attached.
fn install(arguments: &[&str], journal: &mut Journal) -> Result<(String, u64)> {
    told("dpkg", &[&["--install"], arguments].concat())?;
    let watching = journal.until("watching ext4 on")?;
    ensure!(watching.contains(" 0 failed,"), "probes are missing: {watching}");
    ensure!(property("StatusText")? == "ok", "it did not tell systemd that it watches");
    let is_enabled = told("systemctl", &["is-enabled", UNIT])?;
    ensure!(is_enabled.trim() == "enabled", "the unit is {is_enabled}");
    ensure!(property("ActiveState")? == "active", "the unit is not active:\n{}", journal.said);
    ensure!(property("NRestarts")? == "0", "the unit was started again:\n{}", journal.said);
    let probes = watching.split_once(" probes attached").map_or("", |(before, _)| before);
    let probes = probes.rsplit(' ').next().unwrap_or_default().parse();
    let probes = probes.with_context(|| format!("no number of probes: {watching}"))?;
    let version = told("dpkg-query", &["--show", "--showformat", "${Version}", "endiod"])?;
    Ok((version, probes))
}

/// Every probe is there, names of the kernel are known, and file systems are seen: the root, the disk, and
/// one that is mounted afterwards where the unit has a directory of its own.
fn serves(guest: &Guest, uuid: &str, attached: u64, facts: &mut Facts) -> Result<()> {
    let device = Path::new("/dev/vdb");
    disk::make(device, "-t ext4 -b 4096")?;
    let later = disk::mount(device, "later", "ext4", "")?;
    let or = "no watchpoint met a store that it could name, or a rule is off for more than the generation";
    let scrape = until(PATIENCE, or, || {
        for dir in [Path::new("/mnt/package"), &later.dir().join("package")] {
            if dir.exists() {
                fs::remove_dir_all(dir)?;
            }
            fs::create_dir(dir)?;
            stress_in(dir, 4, &["--buffered", "-t", "4", "-s", "1", "-S", "-o", "2"])?;
        }
        sync();
        let (_, scrape) = http::get(LISTEN.parse()?, "/metrics")?;
        let sum = |metric: &str, label: &str| http::sum_with(&scrape, metric, label);
        let is_named = sum("endiod_watchpoint_hits_total", "outcome=\"named\"") > 0.0;
        let off = |reason| sum("endiod_detector_degraded", reason);
        Ok((is_named && off("") == off("reason=\"generation\"")).then_some(scrape))
    })?;
    fs::write(guest.out.join("package.prom"), &scrape)?;
    ensure!(http::get(LISTEN.parse()?, "/readyz")?.0 == 200, "it serves and is not ready");
    let sum = |metric: &str, label: &str| http::sum_with(&scrape, metric, label);
    let probes = sum("endiod_probe_attached", "") as u64;
    ensure!(probes == attached, "{probes} probes are attached, of {attached}");
    ensure!(sum("endiod_events_lost_total", "") == 0.0, "events were lost");
    for (label, place) in [("vda", "/mnt"), ("vdb", "/tmp/later"), ("vdf", "/")] {
        let device = format!("device=\"{label}\"");
        let info = scrape
            .lines()
            .find(|line| line.starts_with("endiod_device_info{") && line.contains(&device));
        let info = info.with_context(|| format!("{label} is not among the devices"))?;
        ensure!(info.contains(&format!("mountpoint=\"{place}\"")), "{place}: {info}");
        ensure!(label != "vda" || info.contains(uuid), "the UUID is {uuid}: {info}");
    }
    for label in ["vda", "vdb"] {
        let io_ends = sum("endiod_io_end_completed_total", &format!("device=\"{label}\""));
        ensure!(io_ends > 0.0, "no io_end of {label} was seen");
        facts.insert(format!("io_ends of {label}"), (io_ends as u64).into());
    }
    facts.insert("probes".into(), probes.into());
    facts.insert("watchpoint hits".into(), (sum("endiod_watchpoint_hits_total", "") as u64).into());
    later.unmount()
}

/// On request, in the unit's directory of state, and for root only.
fn keeps_a_slice(facts: &mut Facts) -> Result<()> {
    let dir = Path::new(FINDINGS);
    told("systemctl", &["kill", "--signal", "SIGUSR1", UNIT])?;
    let slice = until(PATIENCE, "no slice was kept", || Ok(keep::recordings(dir).pop()))?;
    facts.insert("io_ends of the slice".into(), keep::all_replay(dir)?.into());
    for (path, mode) in [(dir, 0o700), (&slice, 0o600)] {
        let is = fs::metadata(path)?.permissions().mode() & 0o777;
        ensure!(is == mode, "{} has mode {is:o}", path.display());
    }
    Ok(())
}

/// `systemd-analyze`'s last line.
fn exposure() -> Result<String> {
    let threshold = ["--threshold", EXPOSURE_MAX];
    let told =
        told("systemd-analyze", &[&["security", "--no-pager"], &threshold[..], &[UNIT]].concat())?;
    let line = told.trim().lines().last().context("systemd-analyze says nothing")?;
    let (_, level) = line.split_once(": ").with_context(|| line.to_owned())?;
    Ok(level.to_owned())
}

fn reload(journal: &mut Journal) -> Result<()> {
    let pid = property("MainPID")?;
    let text = fs::read_to_string(CONFIG)?;
    let changed = text.replace("stuck_after = 30", "stuck_after = 12");
    ensure!(changed != text, "{CONFIG} has no threshold as it was:\n{text}");
    fs::write(CONFIG, changed)?;
    let reloaded = "endiod_config_last_reload_success_timestamp_seconds";
    let at = |scrape: &str| http::sum(scrape, reloaded);
    let before = at(&http::get(LISTEN.parse()?, "/metrics")?.1);
    told("systemctl", &["reload", UNIT])?;
    journal.until("SIGHUP: stuck_after = 12")?;
    let (_, scrape) = http::get(LISTEN.parse()?, "/metrics")?;
    ensure!(at(&scrape) > before, "{reloaded} is as it was");
    ensure!(property("MainPID")? == pid, "the reload started it again");
    Ok(())
}

/// As unattended upgrades do it: what was changed here stays, what is new lies beside it.
fn upgrade(version: &str, journal: &mut Journal) -> Result<()> {
    let pid = property("MainPID")?;
    let (next, _) = install(&["--force-confold", NEXT], journal)?;
    told("dpkg", &["--compare-versions", &next, "gt", version])?;
    ensure!(property("MainPID")? != pid, "the old program runs on");
    let kept = fs::read_to_string(CONFIG)?;
    ensure!(kept.contains("stuck_after = 12"), "the change is gone:\n{kept}");
    let (_, scrape) = http::get(LISTEN.parse()?, "/metrics")?;
    ensure!(http::sum(&scrape, "endiod_config_last_reload_successful") == 1.0, "it took none");
    ensure!(Path::new(CONFIG_NEXT).exists(), "the newer settings are not beside ours");
    Ok(())
}

/// An agent that does not get on is killed and started again, here with less patience than the unit has.
fn is_started_again() -> Result<()> {
    let patience = Path::new("/run/systemd/system/endiod.service.d");
    fs::create_dir_all(patience)?;
    fs::write(patience.join("test.conf"), "[Service]\nWatchdogSec=5\nRestartSec=0\n")?;
    told("systemctl", &["daemon-reload"])?;
    told("systemctl", &["restart", UNIT])?;
    let pid = property("MainPID")?;
    told("systemctl", &["kill", "--signal", "SIGSTOP", UNIT])?;
    until(PATIENCE, "systemd lets a dead agent be", || {
        let again = property("NRestarts")? == "1" && property("StatusText")? == "ok";
        Ok((again && property("MainPID")? != pid).then_some(()))
    })?;
    fs::remove_dir_all(patience)?;
    told("systemctl", &["daemon-reload"])?;
    Ok(())
}

/// Stopped and gone; what belongs to the administrator stays.
fn remove() -> Result<()> {
    told("dpkg", &["--remove", "endiod"])?;
    ensure!(property("ActiveState")? == "inactive", "the unit is active after the removal");
    ensure!(http::get(LISTEN.parse()?, "/metrics").is_err(), "somebody serves after the removal");
    for path in ["/usr/bin/endiod", "/usr/lib/systemd/system/endiod.service"] {
        ensure!(!Path::new(path).exists(), "the removal leaves {path}");
    }
    ensure!(Path::new(CONFIG).exists(), "the removal takes the settings");
    ensure!(!keep::recordings(Path::new(FINDINGS)).is_empty(), "the removal takes the findings");
    Ok(())
}

/// Whatever is called after the agent on the file system of a directory.
fn named_endiod(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let device = fs::metadata(dir)?.dev();
    let (mut found, mut dirs) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if entry.file_name().to_string_lossy().contains("endiod") {
                found.push(entry.path());
            } else if meta.is_dir() && meta.dev() == device {
                dirs.push(entry.path());
            }
        }
    }
    Ok(found)
}
