//! Hosts that cannot be watched: each is refused with the reason and the fix, before the kernel is
//! touched. The hosts are directories that look like `/proc` and `/sys`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use endiod::{
    host::Host,
    source::kernel::{KernelSource, object},
};

struct Fake {
    root: PathBuf,
}

impl Fake {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("endiod-fake-{name}-{}", std::process::id()));
        let fake = Fake { root };
        fake.write("proc/sys/kernel/osrelease", "6.1.0-56-cloud-amd64\n");
        fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t000001ffffffffff\n");
        fake
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
            .expect("the temporary directory is ours");
        fs::write(path, text).expect("the temporary directory is ours");
    }

    /// What opening the kernel says, which must be all of `words`.
    fn refuses(&self, words: &[&str]) {
        if object((6, 1)).is_none() {
            assert!(
                std::env::var_os("ENDIOD_REQUIRE_PROGRAMS").is_none(),
                "built without programs"
            );
            eprintln!("built without programs: nothing else can be refused");
            return;
        }
        let Err(error) = KernelSource::open(&Host::at(&self.root), 4096) else {
            panic!("the host was taken");
        };
        let error = error.to_string();
        for word in words {
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        // A directory that stays behind in the temporary directory harms nobody.
        let _ = fs::remove_dir_all(&self.root);
    }
}

#[test]
fn an_old_kernel_is_named_with_what_it_lacks() {
    let fake = Fake::new("old");
    fake.write("proc/sys/kernel/osrelease", "4.19.0-27-amd64\n");
    fake.refuses(&["4.19.0-27-amd64", "too old", "5.10"]);
}

#[test]
fn missing_capabilities_are_named() {
    let fake = Fake::new("caps");
    fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t0000000000000000\n");
    fake.refuses(&["CAP_BPF and CAP_PERFMON", "sudo endiod run"]);
    // CAP_BPF alone.
    fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t0000008000000000\n");
    fake.refuses(&["CAP_PERFMON"]);
}

#[test]
fn a_kernel_without_btf_is_named() {
    Fake::new("btf").refuses(&["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn broken_btf_is_an_error_and_no_panic() {
    let fake = Fake::new("broken");
    fake.write("sys/kernel/btf/vmlinux", "this is no type information at all");
    fake.refuses(&["BTF"]);
}
