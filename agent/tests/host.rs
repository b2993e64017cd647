//! Hosts that cannot be watched: each is refused with the reason and the fix, before the kernel is
//! touched. The hosts are directories that look like `/proc` and `/sys`.

#[path = "support/fake_host.rs"]
mod fake_host;

use endiod::source::kernel::{Choice, KernelSource, Sizes, object};

use fake_host::FakeHost;

const RELEASE: &str = "6.1.0-56-cloud-amd64\n";
const SIZES: Sizes = Sizes { ring_bytes: 4096, entries_max: 1 };

/// What opening the kernel says, which must be all of `words`.
fn refuses(fake: &FakeHost, words: &[&str]) {
    if object((6, 1)).is_none() {
        assert!(std::env::var_os("ENDIOD_REQUIRE_PROGRAMS").is_none(), "built without programs");
        eprintln!("built without programs: nothing else can be refused");
        return;
    }
    let Err(error) = KernelSource::open(&fake.host(), SIZES, Choice::default()) else {
        panic!("the host was taken");
    };
    let error = error.to_string();
    for word in words {
        assert!(error.contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn an_old_kernel_is_named_with_what_it_lacks() {
    let fake = FakeHost::new("old", RELEASE);
    fake.write("proc/sys/kernel/osrelease", "4.19.0-27-amd64\n");
    refuses(&fake, &["4.19.0-27-amd64", "too old", "5.10"]);
}

#[test]
fn missing_capabilities_are_named() {
    let fake = FakeHost::new("caps", RELEASE);
    fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t0000000000000000\n");
    refuses(&fake, &["CAP_BPF and CAP_PERFMON", "sudo endiod run"]);
    // CAP_BPF alone.
    fake.write("proc/self/status", "Name:\tendiod\nCapEff:\t0000008000000000\n");
    refuses(&fake, &["CAP_PERFMON"]);
}

#[test]
fn a_kernel_without_btf_is_named() {
    refuses(&FakeHost::new("btf", RELEASE), &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

/// Type information of a kernel that describes nothing of ext4: a header, and no type.
fn bare_btf() -> Vec<u8> {
    let header: [u32; 6] = [0x0001_eb9f, 24, 0, 0, 0, 1];
    let mut btf: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
    btf.push(0);
    btf
}

#[test]
fn a_module_without_btf_and_with_other_io_ends_is_refused() {
    let fake = FakeHost::new("longer", RELEASE);
    fake.write("sys/kernel/btf/vmlinux", bare_btf());
    fake.write("sys/module/ext4/initstate", "live\n");
    fake.write("sys/kernel/slab/ext4_io_end/object_size", "72\n");
    refuses(&fake, &["72 bytes long, and not 64", "CONFIG_DEBUG_INFO_BTF_MODULES"]);
    fake.write("sys/kernel/slab/ext4_io_end/object_size", "64\n");
    fake.write("proc/sys/kernel/osrelease", "7.4.0-rc1\n");
    refuses(&fake, &["no BTF of it", "up to 7.3, and this is 7.4.0-rc1"]);
}

#[test]
fn broken_btf_is_an_error_and_no_panic() {
    let fake = FakeHost::new("broken", RELEASE);
    fake.write("sys/kernel/btf/vmlinux", "this is no type information at all");
    refuses(&fake, &["BTF"]);
}
