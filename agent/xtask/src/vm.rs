//! Runs a command in a guest: a real kernel of the `KERNELS` table under QEMU's emulation, with
//! a real ext4 disk.
//!
//! ```text
//! Vm ─► image (initramfs: base + modules + init.sh + command + /in)
//!  ├──► disks (vda ext4, vdb–vdd raw, vde = /out; vdf = a Debian root)
//!  └──► machine (QEMU) ─ port 1 ─► the command's output, relayed as it comes
//!                      ─ port 2 ─► boot · start · exit N | fail WHY      (`control`)
//!                      ─ ttyS0 ──► the kernel log, a file
//! ```
//!
//! A guest that shows no sign of life is booted once more; one whose command had begun never is:
//! what it did must be judged. Nothing of a run is left behind but its log and its results: QEMU
//! dies with this process, however that ends.
//!
//! Call `run` from the thread that lives as long as the guest shall (QEMU is tied to it).

pub(crate) mod cpio;
pub(crate) mod modules;

mod control;
mod disks;
mod image;
mod machine;
mod relay;
mod run_dir;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use self::{
    disks::Disks,
    machine::{End, Machine},
    run_dir::RunDir,
};
use crate::{
    archive::Gone,
    cli::{Root, VmArgs},
    command::tail_lines,
    setup,
    workspace::Workspace,
};

pub(crate) const EXIT_HELP: &str = "Exit status: the command's; 124 it took longer than --timeout; \
125 the guest died (panic, QEMU ended); 126 harness or usage error. The last three say why in a \
line of JSON on stderr.";

/// Lines of the kernel log that a failure shows.
const LOG_LINES_SHOWN: usize = 60;

/// A guest to be: what to boot, with what, and what to give it.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    pub(crate) kernel: String,
    pub(crate) smp: u32,
    pub(crate) mem: String,
    pub(crate) timeout: Duration,
    /// How long the command may write nothing.
    pub(crate) silence: Duration,
    pub(crate) iops: Option<u32>,
    pub(crate) mkfs: Option<String>,
    pub(crate) mount: Option<String>,
    pub(crate) modules: Vec<String>,
    pub(crate) replace: Vec<String>,
    pub(crate) copy_in: Vec<PathBuf>,
    pub(crate) copy_out: Option<PathBuf>,
    pub(crate) root: Root,
    pub(crate) forward: Vec<String>,
    pub(crate) icount: bool,
    /// Whether the command's output goes to our stdout as it comes.
    pub(crate) relay: bool,
    /// What each line of it begins with there, and its kernel log is called: guests may run side by
    /// side.
    pub(crate) label: Option<String>,
}

/// How a guest ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum VmStatus {
    /// The command ended with this status (128 and the signal's number if a signal ended it).
    Exited(u8),
    /// The command had begun and did not end in time.
    TimedOut(Duration),
    /// The command had begun and wrote nothing for so long.
    Silent(Duration),
    /// The guest is gone, or never came.
    Dead(String),
}

/// What is left of a guest. Its results stay on disk as long as this value lives.
#[derive(Debug)]
pub(crate) struct VmOutcome {
    pub(crate) status: VmStatus,
    /// The first megabytes of what the command wrote to stdout and stderr.
    pub(crate) stdout: String,
    pub(crate) kernel_log: String,
    /// Where the kernel log stays after this value is gone.
    pub(crate) kernel_log_file: PathBuf,
    /// What the guest left in /out.
    pub(crate) out_dir: PathBuf,
    /// From the start of QEMU to the first sign of life, and the command's own time.
    pub(crate) boot: Duration,
    pub(crate) elapsed: Duration,
    _run_dir: RunDir,
}

impl Vm {
    /// A guest with the defaults of `cargo xtask vm`.
    pub(crate) fn new(kernel: &str) -> Self {
        Self {
            kernel: kernel.to_owned(),
            smp: 2,
            mem: "2G".to_owned(),
            timeout: Duration::from_secs(120),
            silence: Duration::MAX,
            iops: None,
            mkfs: None,
            mount: None,
            modules: Vec::new(),
            replace: Vec::new(),
            copy_in: Vec::new(),
            copy_out: None,
            root: Root::Initramfs,
            forward: Vec::new(),
            icount: false,
            relay: true,
            label: None,
        }
    }

    pub(crate) fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub(crate) fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    pub(crate) fn labelled(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    pub(crate) fn smp(mut self, cpus: u32) -> Self {
        self.smp = cpus;
        self
    }

    /// Modules of the kernel to load, after those that every guest needs.
    pub(crate) fn modules<'a>(mut self, names: impl Iterator<Item = &'a &'a str>) -> Self {
        self.modules.extend(names.map(|name| (*name).to_owned()));
        self
    }

    pub(crate) fn iops(mut self, iops: u32) -> Self {
        self.iops = Some(iops);
        self
    }

    pub(crate) fn copy_in(mut self, path: &Path) -> Self {
        self.copy_in.push(path.to_owned());
        self
    }

    pub(crate) fn copy_out(mut self, dir: &Path) -> Self {
        self.copy_out = Some(dir.to_owned());
        self
    }

    pub(crate) fn root(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Boots, runs the command, and brings back what came of it. An error is the harness's or
    /// the caller's: whatever the guest did is an outcome.
    pub(crate) fn run(&self, workspace: &Workspace, command: &[&str]) -> Result<VmOutcome> {
        if command.is_empty() {
            bail!("no command to run in the guest");
        }
        let (qemu, guest) = setup::guest(workspace)?;
        let root = match self.root {
            Root::Initramfs => None,
            Root::Debian => Some(setup::debian_root(workspace)?),
        };
        let kernel = setup::kernel_files(workspace, &self.kernel)?;
        let run_dir = RunDir::create(workspace, &self.kernel)?;
        let initramfs = run_dir.path().join("initramfs");
        image::write(self, workspace, &guest, &kernel, command, &initramfs)?;
        let machine = Machine { vm: self, qemu: &qemu, kernel: &kernel, run_dir: run_dir.path() };
        let mut attempt = 0;
        let ended = loop {
            attempt += 1;
            let disks =
                Disks::create(run_dir.path(), &guest, self.mkfs.as_deref(), root.as_deref())?;
            let ended = machine.boot_and_wait(&disks, &initramfs)?;
            if ended.end != End::NeverBooted || attempt == 2 {
                break (ended, disks);
            }
            eprintln!("vm: kernel {}: no sign of life, booting once more", self.kernel);
        };
        self.outcome(workspace, run_dir, ended.0, &ended.1)
    }

    fn outcome(
        &self,
        workspace: &Workspace,
        run_dir: RunDir,
        ended: machine::Ended,
        disks: &Disks,
    ) -> Result<VmOutcome> {
        let out_dir = self.copy_out.clone().unwrap_or_else(|| run_dir.path().join("out"));
        disks.copy_out(&out_dir)?;
        let name = self.label.as_ref().unwrap_or(&self.kernel);
        let kernel_log_file = keep_log(workspace, name, &ended.kernel_log)?;
        let status = match ended.end {
            End::Exited(status) => VmStatus::Exited(status),
            End::TimedOut => VmStatus::TimedOut(self.timeout),
            End::Silent => VmStatus::Silent(self.silence),
            End::NeverBooted => VmStatus::Dead("no sign of life in two boots".to_owned()),
            End::Died(why) => VmStatus::Dead(why),
            End::Refused(why) => {
                eprintln!("{}", tail_lines(&ended.kernel_log, LOG_LINES_SHOWN));
                bail!("the guest could not be made ready: {why}")
            }
        };
        Ok(VmOutcome {
            status,
            stdout: ended.output,
            kernel_log: ended.kernel_log,
            kernel_log_file,
            out_dir,
            boot: ended.boot,
            elapsed: ended.elapsed,
            _run_dir: run_dir,
        })
    }
}

impl VmOutcome {
    /// Whether the kernel itself gave up, by its own words.
    pub(crate) fn panicked(&self) -> bool {
        self.kernel_log.contains("Kernel panic - not syncing")
    }
}

/// `cargo xtask vm`.
pub(crate) fn main(workspace: &Workspace, args: &VmArgs) -> ExitCode {
    match run_args(workspace, args) {
        Ok(outcome) if args.expect_panic => expect_panic(&args.kernel, &outcome),
        Ok(outcome) => report(&args.kernel, &outcome),
        Err(error) if error.is::<Gone>() => {
            report_failure(&args.kernel, 126, "gone", &format!("{error:#}"))
        }
        Err(error) => report_failure(&args.kernel, 126, "harness", &format!("{error:#}")),
    }
}

/// Says on stderr, for programs, why there is no status of the command's.
pub(crate) fn report_failure(kernel: &str, exit: u8, reason: &str, detail: &str) -> ExitCode {
    let line = serde_json::json!({
        "kernel": kernel, "exit": exit, "reason": reason, "detail": detail,
    });
    eprintln!("{line}");
    ExitCode::from(exit)
}

fn run_args(workspace: &Workspace, args: &VmArgs) -> Result<VmOutcome> {
    let vm = Vm {
        smp: args.smp,
        mem: args.mem.clone(),
        timeout: Duration::from_secs(args.timeout),
        iops: args.iops,
        mkfs: args.mkfs.clone(),
        mount: args.mount.clone(),
        modules: args.module.clone(),
        replace: args.replace.clone(),
        copy_in: args.copy_in.clone(),
        copy_out: args.copy_out.clone(),
        root: args.root,
        forward: args.forward.clone(),
        icount: args.icount,
        ..Vm::new(&args.kernel)
    };
    let command: Vec<&str> = args.command.iter().map(String::as_str).collect();
    vm.run(workspace, &command)
}

fn report(kernel: &str, outcome: &VmOutcome) -> ExitCode {
    let (exit, reason, detail) = match &outcome.status {
        VmStatus::Exited(status) => return ExitCode::from(*status),
        VmStatus::TimedOut(after) => {
            (124, "timeout", format!("the command ran for {} s and had not ended", after.as_secs()))
        }
        VmStatus::Silent(for_so_long) => {
            (124, "silent", format!("the command wrote nothing for {} s", for_so_long.as_secs()))
        }
        VmStatus::Dead(why) => (125, "dead", why.clone()),
    };
    show_log(kernel, outcome);
    report_failure(kernel, exit, reason, &detail)
}

fn expect_panic(kernel: &str, outcome: &VmOutcome) -> ExitCode {
    if outcome.panicked() && matches!(outcome.status, VmStatus::Dead(_)) {
        return ExitCode::SUCCESS;
    }
    show_log(kernel, outcome);
    let detail = format!("a panic was expected; the guest ended as {:?}", outcome.status);
    report_failure(kernel, 125, "no panic", &detail)
}

fn show_log(kernel: &str, outcome: &VmOutcome) {
    eprintln!("--- kernel log of {kernel}, end of {}", outcome.kernel_log_file.display());
    eprintln!("{}", tail_lines(&outcome.kernel_log, LOG_LINES_SHOWN));
    eprintln!("---");
}

fn keep_log(workspace: &Workspace, name: &str, log: &str) -> Result<PathBuf> {
    let file = workspace.store().join("logs").join(format!("{}.log", name.replace(' ', "-")));
    let dir = file.parent().unwrap_or(&file);
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    fs::write(&file, log).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}
