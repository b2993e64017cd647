//! The agent on this machine's own kernel, where its doctor says that it can watch: on an ext4 in a
//! file, loop-mounted in a mount namespace of its own, which takes the mount with it when it ends.
//!
//! It reads what the machine's other file systems do and touches none of them. Where the machine
//! cannot be watched, the verdict says why, and that guests of every kernel have compared the same
//! back ends.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    command::{output, remove_dir_all},
    verdict::{self, Case, Column},
    workspace::Workspace,
};

const NAME: &str = "native";
const CASE: &str = "a_loop_device_of_this_machine_is_conserved";
const IMAGE_BYTES: u64 = 512 << 20;
/// Image, program, verdicts.
const SCRIPT: &str = "mount -o loop \"$1\" /mnt || exit 99
exec \"$2\" --kernel native --suite native --verdicts \"$3\"";
/// How the script says that this machine mounts no file.
const NOT_MOUNTED: i32 = 99;

/// The column of this machine.
pub(super) fn column(workspace: &Workspace, built: &Path, program: &str) -> Result<Column> {
    let begun = Instant::now();
    let cases = match why_not(built)? {
        Some(why) => {
            let why = format!("{why}; backends_agree compares the back ends in guests");
            vec![Case::absent(CASE, &why)]
        }
        None => run(workspace, built, program)?,
    };
    let seconds = begun.elapsed().as_secs_f64();
    for case in &cases {
        eprintln!("test: on this machine: {}: {:?} {}", case.name, case.outcome, case.why);
    }
    Ok(Column { kernel: NAME.to_owned(), cases, seconds })
}

/// Why this machine cannot be watched.
fn why_not(built: &Path) -> Result<Option<String>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Some("not root".to_owned()));
    }
    if !Path::new("/dev/loop-control").exists() {
        return Ok(Some("this machine has no loop devices".to_owned()));
    }
    let mut doctor = Command::new(built.join("endiod"));
    let told = doctor.args(["doctor", "--format", "json"]).output()?;
    let Ok(page) = serde_json::from_slice::<Value>(&told.stdout) else {
        let said = String::from_utf8_lossy(&told.stderr);
        return Ok(Some(format!("endiod doctor: {}", said.trim())));
    };
    if page["basic"]["answer"] == "meets" {
        return Ok(None);
    }
    Ok(Some(format!("endiod doctor: basic is not met: {}", page["basic"]["why"])))
}

fn run(workspace: &Workspace, built: &Path, program: &str) -> Result<Vec<Case>> {
    let out = workspace.store().join("out").join(NAME);
    remove_dir_all(&out)?;
    fs::create_dir_all(&out)?;
    let image = out.join("ext4.img");
    File::create(&image)?.set_len(IMAGE_BYTES)?;
    output(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-b", "4096"]).arg(&image))
        .context("cannot make a file system in a file")?;
    let verdicts = out.join("verdicts.json");
    let path = std::env::var("PATH").unwrap_or_default();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(SCRIPT)
        .arg("sh")
        .args([&image, &built.join(program), &verdicts])
        .env("PATH", format!("{}:{path}", built.display()))
        .status()
        .context("cannot start unshare")?;
    fs::remove_file(&image)?;
    if status.code() == Some(NOT_MOUNTED) {
        return Ok(vec![Case::absent(CASE, "this machine mounts no file as a file system")]);
    }
    let text = fs::read_to_string(&verdicts);
    Ok(match text {
        Ok(text) => verdict::parse(&text)
            .unwrap_or_else(|error| vec![Case::failed(CASE, &format!("{error:#}"))]),
        Err(error) => vec![Case::failed(CASE, &format!("{status}, and no verdicts: {error}"))],
    })
}
