//! The agent on this machine's own kernel, where its doctor says that it can watch: on an ext4 in a
//! file, loop-mounted in a mount namespace of its own, which takes the mount with it when it ends.
//!
//! It reads what the machine's other file systems do and touches none of them. Where the machine
//! cannot be watched, the verdict says why. Raw tracepoints alone have then served only in the guests
//! that refuse all other programs; which of the two it was, the run says at its end.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    command::{output, remove_dir_all},
    verdict::{self, Case, Column, Outcome},
    workspace::Workspace,
};

const NAME: &str = "native";
const CASE: &str = "a_loop_device_of_this_machine_is_conserved";
/// The guests' case that stands in for it.
const IN_GUESTS: &str = "tracing_refused_falls_back_to_raw_tracepoints";
/// The fact of both that names the back ends, and how it begins where raw tracepoints came first.
const BACK_END: (&str, &str) = ("back end", "raw_tp");
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
            let why = format!("{why}; in guests {IN_GUESTS} stands in for it");
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

/// Where raw tracepoints have served in place of tracing programs: on this machine, in guests, or both.
///
/// # Errors
/// Nowhere, which no whole run may end with.
pub(super) fn served(columns: &[Column]) -> Result<String> {
    let cases = columns.iter().flat_map(|column| column.cases.iter().map(move |it| (column, it)));
    let cases: Vec<_> =
        cases.filter(|(_, case)| [CASE, IN_GUESTS].contains(&&*case.name)).collect();
    let serves = |case: &Case| {
        let by = case.facts.get(BACK_END.0).and_then(Value::as_str);
        case.outcome == Outcome::Passed && by.is_some_and(|by| by.starts_with(BACK_END.1))
    };
    let (here, guests): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .filter(|(_, case)| serves(case))
        .map(|(column, _)| &*column.kernel)
        .partition(|kernel| *kernel == NAME);
    let place = match (here.is_empty(), guests.is_empty()) {
        (true, true) => bail!("raw tracepoints served nowhere in place of tracing programs"),
        (false, true) => "on this machine".to_owned(),
        (true, false) => format!("in guests of {}", guests.join(", ")),
        (false, false) => format!("on this machine and in guests of {}", guests.join(", ")),
    };
    Ok(format!("raw tracepoints served in place of tracing programs {place}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn column(kernel: &str, case: &str, by: Option<&str>) -> Column {
        let mut case = match by {
            Some(_) => Case::passed(case),
            None => Case::absent(case, "not root"),
        };
        case.facts.extend(by.map(|by| (BACK_END.0.to_owned(), by.into())));
        Column { kernel: kernel.to_owned(), cases: vec![case], seconds: 0.0 }
    }

    #[test]
    fn where_raw_tracepoints_served_is_told() {
        let guest = || column("6.1", IN_GUESTS, Some("raw_tp, in place of fentry: EPERM; kprobe"));
        let check = |columns: &[Column], place: &str| {
            let told = served(columns).unwrap();
            assert!(told.ends_with(place), "{told}");
        };
        check(&[column(NAME, CASE, None), guest()], "programs in guests of 6.1");
        check(&[column(NAME, CASE, Some("fentry")), guest()], "programs in guests of 6.1");
        let here = || column(NAME, CASE, Some("raw_tp, in place of fentry: EPERM"));
        check(&[here()], "programs on this machine");
        check(&[here(), guest()], "on this machine and in guests of 6.1");
        served(&[column(NAME, CASE, Some("fentry")), column("6.1", IN_GUESTS, None)]).unwrap_err();
    }
}
