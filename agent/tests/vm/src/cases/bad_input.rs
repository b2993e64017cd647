//! What a user gets wrong, and what a host refuses: each is named, with the fix, and exit 2.

use std::{
    ffi::CString,
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, ensure};

use crate::{Facts, Guest, agent::LISTEN};

/// `nobody`.
pub(super) const NOBODY: u32 = 65534;

fn endiod(args: &[&str]) -> Command {
    let mut command = Command::new("endiod");
    command.args(args);
    command
}

/// The command must fail with 2 and say all of `words`, without a panic.
fn refused(what: &str, output: &Output, words: &[&str]) -> Result<()> {
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(2), "{what}: ended with {}: {stderr}", output.status);
    ensure!(!stderr.contains("panicked"), "{what}: panicked: {stderr}");
    for word in words {
        ensure!(stderr.contains(word), "{what}: does not say {word:?}: {stderr}");
    }
    Ok(())
}

pub(crate) fn named(_guest: &Guest, facts: &mut Facts) -> Result<()> {
    let run = ["run", "--duration", "5"];
    let output = endiod(&run).uid(NOBODY).gid(NOBODY).output()?;
    refused("not root", &output, &["CAP_BPF", "sudo endiod run"])?;

    let holder = TcpListener::bind(LISTEN)?;
    let output = endiod(&run).output()?;
    refused("port in use", &output, &[LISTEN, "--listen"])?;
    drop(holder);

    let output = endiod(&["run", "--nonsense"]).output()?;
    refused("unknown flag", &output, &["--nonsense"])?;
    let output = endiod(&["run", "--ring-bytes", "5000"]).output()?;
    refused("odd ring", &output, &["5000", "power of two"])?;
    let output = endiod(&["stress", "-t", "2"]).output()?;
    refused("stress without files", &output, &["file"])?;

    with_kptr_restrict("2", || {
        let output = endiod(&run).output()?;
        refused("hidden addresses", &output, &["kptr_restrict"])
    })?;
    without_btf(|| {
        let output = endiod(&run).output()?;
        refused("no BTF", &output, &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"])
    })?;
    facts.insert("inputs".into(), 7.into());
    Ok(())
}

fn with_kptr_restrict(value: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    const PATH: &str = "/proc/sys/kernel/kptr_restrict";
    let before = fs::read_to_string(PATH)?;
    fs::write(PATH, value)?;
    let result = check();
    fs::write(PATH, before)?;
    result
}

/// Hides the kernel's BTF under an empty file system.
fn without_btf(check: impl FnOnce() -> Result<()>) -> Result<()> {
    let (source, target) = (CString::new("none")?, CString::new("/sys/kernel/btf")?);
    let kind = CString::new("tmpfs")?;
    // SAFETY: the three strings are NUL-terminated and live through the call; no data is passed.
    let status = unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null())
    };
    ensure!(status == 0, "cannot mount over /sys/kernel/btf: {}", std::io::Error::last_os_error());
    let result = check();
    // SAFETY: the string is NUL-terminated and lives through the call.
    let status = unsafe { libc::umount(target.as_ptr()) };
    ensure!(status == 0, "cannot unmount: {}", std::io::Error::last_os_error());
    result
}

/// Confidentiality forbids programs to read kernel memory. It cannot be taken back: only the last
/// cases may call it.
pub(super) fn lock_down() -> Result<()> {
    const PATH: &str = "/sys/kernel/security/lockdown";
    if !fs::exists(PATH)? {
        let status = Command::new("mount")
            .args(["-t", "securityfs", "none", "/sys/kernel/security"])
            .status()?;
        ensure!(status.success(), "cannot mount securityfs");
    }
    if fs::read_to_string(PATH)?.contains("[confidentiality]") {
        return Ok(());
    }
    fs::write(PATH, "confidentiality").context("cannot lock the kernel down")
}

pub(crate) fn locked_down(_guest: &Guest, _facts: &mut Facts) -> Result<()> {
    lock_down()?;
    let output = endiod(&["run", "--duration", "5"]).output()?;
    refused("lockdown", &output, &["refused", "locked down"])
}
