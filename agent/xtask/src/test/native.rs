//! The agent on this machine's own kernel, where its doctor says that it can watch: on an ext4 in a
//! file, loop-mounted in a mount namespace of its own, which takes the mount with it when it ends.
//!
//! It runs twice: by the back ends of the agent's choice, and by raw tracepoints alone, which a kernel
//! that takes fentry would not show. It reads what the machine's other file systems do and touches none
//! of them. Where the machine cannot be watched so, the verdict says why, and guests that refuse all
//! other programs stand in; where raw tracepoints have served, the run says at its end.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    command::{output, remove_dir_all},
    verdict::{self, Case, Column, Outcome},
    workspace::Workspace,
};

const NAME: &str = "native";
/// A case of this machine.
#[derive(Debug)]
struct Native {
    name: &'static str,
    /// The back end that it asks for.
    backend: &'static str,
}

const CHOSEN: Native =
    Native { name: "a_loop_device_of_this_machine_is_conserved", backend: "auto" };
const RAW: Native = Native {
    name: "raw_tracepoints_alone_conserve_a_loop_device_of_this_machine",
    backend: "raw_tp",
};
/// The guests' case that stands in for both.
const IN_GUESTS: &str = "tracing_refused_falls_back_to_raw_tracepoints";
/// The fact of all that names the back ends, and how it begins where raw tracepoints came first.
const BACK_END: (&str, &str) = ("back end", "raw_tp");
const IMAGE_BYTES: u64 = 512 << 20;
/// Image, program, verdicts, case.
const SCRIPT: &str = "mount -o loop \"$1\" /mnt || exit 99
exec \"$2\" --kernel native --suite native --verdicts \"$3\" \
    --filter \"$4\"";
/// How the script says that this machine mounts no file.
const NOT_MOUNTED: i32 = 99;

/// The column of this machine.
pub(super) fn column(workspace: &Workspace, built: &Path, program: &str) -> Result<Column> {
    let begun = Instant::now();
    let out = workspace.store().join("out").join(NAME);
    remove_dir_all(&out)?;
    fs::create_dir_all(&out)?;
    let mut cases = Vec::new();
    for case in [CHOSEN, RAW] {
        cases.extend(match why_not(built, case.backend)? {
            Some(why) => {
                let why = format!("{why}; in guests {IN_GUESTS} stands in for it");
                vec![Case::absent(case.name, &why)]
            }
            None => run(&case, &out, built, program)?,
        });
    }
    let seconds = begun.elapsed().as_secs_f64();
    for case in &cases {
        eprintln!("test: on this machine: {}: {:?} {}", case.name, case.outcome, case.why);
    }
    Ok(Column { kernel: NAME.to_owned(), cases, seconds })
}

/// Why this machine cannot be watched by that back end.
fn why_not(built: &Path, backend: &str) -> Result<Option<String>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(Some("not root".to_owned()));
    }
    if !Path::new("/dev/loop-control").exists() {
        return Ok(Some("this machine has no loop devices".to_owned()));
    }
    let mut doctor = Command::new(built.join("endiod"));
    let told = doctor.args(["doctor", "--backend", backend, "--format", "json"]).output()?;
    let Ok(page) = serde_json::from_slice::<Value>(&told.stdout) else {
        let said = String::from_utf8_lossy(&told.stderr);
        return Ok(Some(format!("endiod doctor: {}", said.trim())));
    };
    if page["basic"]["answer"] == "meets" {
        return Ok(None);
    }
    Ok(Some(format!(
        "endiod doctor --backend {backend}: basic is not met: {}",
        page["basic"]["why"]
    )))
}

/// Where raw tracepoints have served, and whether that was asked of them or tracing programs were
/// refused.
///
/// # Errors
/// Nowhere, which no whole run may end with.
pub(super) fn served(columns: &[Column]) -> Result<String> {
    let serves = |case: &Case| {
        let by = case.facts.get(BACK_END.0).and_then(Value::as_str);
        case.outcome == Outcome::Passed && by.is_some_and(|by| by.starts_with(BACK_END.1))
    };
    let on = |name: &str| -> Vec<_> {
        let has_served =
            |column: &&Column| column.cases.iter().any(|case| case.name == name && serves(case));
        columns.iter().filter(has_served).map(|column| &*column.kernel).collect()
    };
    let mut places = Vec::new();
    if !on(CHOSEN.name).is_empty() {
        places.push("in place of tracing programs on this machine".to_owned());
    }
    if !on(RAW.name).is_empty() {
        places.push("alone, as asked, on this machine".to_owned());
    }
    let guests = on(IN_GUESTS);
    if !guests.is_empty() {
        places.push(format!("in place of tracing programs in guests of {}", guests.join(", ")));
    }
    ensure!(!places.is_empty(), "raw tracepoints served nowhere");
    Ok(format!("raw tracepoints served {}", places.join("; ")))
}

fn run(case: &Native, out: &Path, built: &Path, program: &str) -> Result<Vec<Case>> {
    let image = out.join("ext4.img");
    File::create(&image)?.set_len(IMAGE_BYTES)?;
    output(Command::new("mke2fs").args(["-q", "-F", "-t", "ext4", "-b", "4096"]).arg(&image))
        .context("cannot make a file system in a file")?;
    let verdicts = out.join(format!("{}.verdicts.json", case.backend));
    let path = std::env::var("PATH").unwrap_or_default();
    let status = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c"])
        .arg(SCRIPT)
        .arg("sh")
        .args([&image, &built.join(program), &verdicts])
        .arg(case.name)
        .env("PATH", format!("{}:{path}", built.display()))
        .status()
        .context("cannot start unshare")?;
    fs::remove_file(&image)?;
    if status.code() == Some(NOT_MOUNTED) {
        return Ok(vec![Case::absent(case.name, "this machine mounts no file as a file system")]);
    }
    let text = fs::read_to_string(&verdicts);
    Ok(match text {
        Ok(text) => verdict::parse(&text)
            .unwrap_or_else(|error| vec![Case::failed(case.name, &format!("{error:#}"))]),
        Err(error) => vec![Case::failed(case.name, &format!("{status}, and no verdicts: {error}"))],
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
        let check = |columns: &[Column], places: &str| {
            assert_eq!(served(columns).unwrap(), format!("raw tracepoints served {places}"));
        };
        let in_guests = "in place of tracing programs in guests of 6.1";
        check(&[column(NAME, CHOSEN.name, None), guest()], in_guests);
        check(&[column(NAME, CHOSEN.name, Some("fentry")), guest()], in_guests);
        let asked = || column(NAME, RAW.name, Some("raw_tp"));
        check(&[asked()], "alone, as asked, on this machine");
        check(&[asked(), guest()], &format!("alone, as asked, on this machine; {in_guests}"));
        let here = column(NAME, CHOSEN.name, Some("raw_tp, in place of fentry: EPERM"));
        check(&[here], "in place of tracing programs on this machine");
        let nowhere = [column(NAME, CHOSEN.name, Some("fentry")), column("6.1", IN_GUESTS, None)];
        served(&nowhere).unwrap_err();
    }
}
