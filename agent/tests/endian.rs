//! On a big-endian machine the agent does not build, and says why.
//!
//! No standard library for such a machine is needed to see it: the compiler is told that this one is big-endian
//! too.

use std::{path::Path, process::Command};

/// What the compiler says of a crate's root, for a machine of that order of bytes besides its own.
fn errors_in(root: &str, endian: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata"])
        // Never /dev/null: rustc renames its output into place, as root over the device.
        .args(["--out-dir", env!("CARGO_TARGET_TMPDIR")])
        .args(["-A", "explicit_builtin_cfgs_in_flags", "--cfg"])
        .arg(format!("target_endian=\"{endian}\""))
        .arg(root)
        .output()
        .expect("cargo test has a rustc beside it");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_big_endian_machine_is_refused_with_the_reason() {
    const REASON: &str = "endiod runs on little-endian machines only";
    for root in ["src/lib.rs", "../ebpf/src/lib.rs"] {
        let errors = errors_in(root, "big");
        assert!(errors.contains(REASON), "{root}: {errors}");
        let errors = errors_in(root, "little");
        assert!(!errors.contains(REASON), "{root}: {errors}");
    }
}
