//! QEMU: its command line, and watching over one boot.
//!
//! Software emulation, since the machines this runs on have no KVM that works: what it says about
//! order and state holds, its times mean nothing.

use std::{
    fs,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Vm,
    control::Control,
    disks::{Disks, Drive},
    relay::{Echo, Heard, relay},
};
use crate::setup::{KernelFiles, QemuFiles};

/// From the start of QEMU to init's first word; a rare slow boot takes 26 s on two idle cores.
const BOOT_MAX: Duration = Duration::from_secs(90);
/// From init's first word to the command: mounting and loading modules.
const READY_MAX: Duration = Duration::from_secs(60);
/// From the time-out to the end: init has the kernel say which tasks are blocked, and where.
const EXPLAIN_TIME: Duration = Duration::from_secs(2);
/// From the command's status to QEMU's own end, after which it is killed.
const POWER_OFF_MAX: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Machine<'a> {
    pub(super) vm: &'a Vm,
    pub(super) qemu: &'a QemuFiles,
    pub(super) kernel: &'a KernelFiles,
    pub(super) run_dir: &'a Path,
}

/// How one boot ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum End {
    Exited(u8),
    TimedOut,
    /// The command had begun, and wrote nothing for longer than it may be silent.
    Silent,
    Died(String),
    /// Not a word from init.
    NeverBooted,
    /// Init could not make the guest ready.
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Ended {
    pub(super) end: End,
    pub(super) output: String,
    pub(super) kernel_log: String,
    pub(super) boot: Duration,
    pub(super) elapsed: Duration,
}

impl Machine<'_> {
    /// Boots and waits until the command has ended, the time is up or the guest is gone.
    pub(super) fn boot_and_wait(&self, disks: &Disks, initramfs: &Path) -> Result<Ended> {
        for file in ["control", "console"] {
            let path = self.run_dir.join(file);
            fs::write(&path, "").with_context(|| format!("cannot write {}", path.display()))?;
        }
        let mut child = self.spawn(disks, initramfs)?;
        let heard = Heard::default();
        let echo = self.vm.relay.then(|| Echo::new(self.vm.label.as_deref()));
        let relay = relay(child.stdout.take(), echo, heard.clone());
        let (end, boot, elapsed) = self.watch(&mut child, &heard)?;
        // The relay ends with the pipe, which ends with QEMU.
        let output = relay.join().unwrap_or_default();
        Ok(Ended { end, output, kernel_log: self.read("console"), boot, elapsed })
    }

    fn watch(&self, child: &mut Child, heard: &Heard) -> Result<(End, Duration, Duration)> {
        let begun = Instant::now();
        let mut booted_at = None;
        let mut started_at = None;
        let end = loop {
            let gone = child.try_wait().context("cannot wait for QEMU")?;
            // Read after looking at QEMU, so that its last word is not missed.
            let control = Control::parse(&self.read("control"));
            let now = Instant::now();
            let booted = control.booted.then(|| *booted_at.get_or_insert(now));
            let started = control.started.then(|| *started_at.get_or_insert(now));
            if let Some(status) = control.exited {
                break End::Exited(status);
            }
            if let Some(why) = control.failed {
                break End::Refused(why);
            }
            if let Some(status) = gone {
                break self.end_of_gone(booted.is_some(), status);
            }
            match (booted, started) {
                (_, Some(at)) if now - at > self.vm.timeout => break End::TimedOut,
                (_, Some(at))
                    if now.saturating_duration_since(heard.since(at)) > self.vm.silence =>
                {
                    break End::Silent;
                }
                (Some(at), None) if now - at > READY_MAX => {
                    break End::Died("booted, and did not get as far as the command".to_owned());
                }
                (None, _) if now - begun > BOOT_MAX => break End::NeverBooted,
                _ => thread::sleep(POLL_INTERVAL),
            }
        };
        let ended = Instant::now();
        let grace = match end {
            End::Exited(_) => POWER_OFF_MAX,
            End::TimedOut | End::Silent => EXPLAIN_TIME,
            _ => Duration::ZERO,
        };
        stop(child, grace)?;
        let boot = booted_at.unwrap_or(ended) - begun;
        let elapsed = started_at.map_or(Duration::ZERO, |at| ended - at);
        Ok((end, boot, elapsed))
    }

    /// QEMU ended without a status from init: with `-no-reboot` that is a panic, or QEMU's fault.
    fn end_of_gone(&self, booted: bool, status: ExitStatus) -> End {
        let log = self.read("console");
        let said = self.read("qemu.stderr");
        let said = said.lines().next().unwrap_or("without a word");
        if log.is_empty() && !booted && status.code().is_some_and(|code| code != 0) {
            return End::Refused(format!("QEMU did not start: {said}"));
        }
        let panic = log.lines().find(|line| line.contains("Kernel panic - not syncing"));
        match panic {
            _ if !booted => End::NeverBooted,
            Some(line) => End::Died(line.trim().to_owned()),
            None => End::Died(format!("QEMU ended with {status}: {said}")),
        }
    }

    fn spawn(&self, disks: &Disks, initramfs: &Path) -> Result<Child> {
        let stderr_path = self.run_dir.join("qemu.stderr");
        let stderr = fs::File::create(&stderr_path)
            .with_context(|| format!("cannot create {}", stderr_path.display()))?;
        // QEMU dies with the thread that starts it, however that ends.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(self.qemu.program());
        command.args(self.qemu.arguments()).args(self.arguments(disks, initramfs)?);
        command.env("QEMU_MODULE_DIR", self.qemu.module_dir());
        // Where snapshots grow.
        command.env("TMPDIR", self.run_dir);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        command.spawn().context("cannot start setpriv with QEMU")
    }

    fn arguments(&self, disks: &Disks, initramfs: &Path) -> Result<Vec<String>> {
        let vm = self.vm;
        let file = |name: &str| self.run_dir.join(name).display().to_string();
        let mut arguments = Vec::new();
        let mut add = |words: &[&str]| arguments.extend(words.iter().map(|w| (*w).to_owned()));
        if vm.icount {
            add(&["-accel", "tcg,thread=single", "-smp", "1", "-icount", "shift=0,sleep=off"]);
        } else {
            add(&["-accel", "tcg,thread=multi", "-smp", &vm.smp.to_string()]);
        }
        add(&["-cpu", "max", "-m", &vm.mem, "-nodefaults", "-display", "none", "-no-reboot"]);
        add(&["-kernel", &self.kernel.image().display().to_string()]);
        add(&["-initrd", &initramfs.display().to_string()]);
        add(&["-append", "console=ttyS0 panic=-1 quiet rdinit=/init"]);
        add(&["-serial", &format!("file:{}", file("console"))]);
        add(&["-device", "virtio-serial-pci"]);
        // Not `stdio`: it takes the end of its input for a hang-up and drops the output.
        add(&["-chardev", "file,id=output,path=/proc/self/fd/1"]);
        add(&["-device", "virtserialport,chardev=output,nr=1"]);
        add(&["-chardev", &format!("file,id=control,path={}", file("control"))]);
        add(&["-device", "virtserialport,chardev=control,nr=2"]);
        for Drive { name, file, is_snapshot } in disks.list() {
            let throttle = match vm.iops {
                Some(iops) if name == "vda" => format!(",throttling.iops-total={iops}"),
                _ => String::new(),
            };
            let file = file.display();
            let snapshot = if is_snapshot { ",snapshot=on" } else { "" };
            let drive = format!(
                "if=none,format=raw,cache=unsafe,id={name},file={file}{snapshot}{throttle}"
            );
            add(&["-drive", &drive]);
            add(&["-device", &format!("virtio-blk-pci,drive={name},serial={name}")]);
        }
        if vm.forward.is_empty() {
            add(&["-net", "none"]);
        } else {
            add(&[
                "-netdev",
                &netdev(&vm.forward)?,
                "-device",
                "virtio-net-pci,netdev=net,romfile=",
            ]);
        }
        Ok(arguments)
    }

    fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.run_dir.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// QEMU's user network with a forward per `HOST:GUEST`, on this machine's loopback only.
fn netdev(forwards: &[String]) -> Result<String> {
    let mut netdev = "user,id=net".to_owned();
    for forward in forwards {
        let ports = forward.split_once(':');
        let ports = ports.and_then(|(h, g)| Some((h.parse::<u16>().ok()?, g.parse::<u16>().ok()?)));
        let Some((host, guest)) = ports else {
            bail!("--forward {forward}: expected HOST:GUEST, two port numbers");
        };
        netdev += &format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}");
    }
    Ok(netdev)
}

/// Gives QEMU the time to end, then ends it.
fn stop(child: &mut Child, grace: Duration) -> Result<()> {
    let deadline = Instant::now() + grace;
    while child.try_wait().context("cannot wait for QEMU")?.is_none() {
        if Instant::now() >= deadline {
            child.kill().context("cannot kill QEMU")?;
            child.wait().context("cannot wait for QEMU")?;
            break;
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_two_ports_on_the_loopback() {
        let netdev = |forward: &str| netdev(&[forward.to_owned()]);
        assert_eq!(netdev("8080:10491").unwrap(), "user,id=net,hostfwd=tcp:127.0.0.1:8080-:10491");
        netdev("8080").unwrap_err();
        netdev("x:1").unwrap_err();
    }
}
