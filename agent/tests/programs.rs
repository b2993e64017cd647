//! The BPF objects as they were built: what sequence numbers are made of, and that every program of
//! the table is in both.

use endiod::{probes::PROBES, source::kernel::object};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind};

/// `BPF_STX | BPF_ATOMIC | BPF_DW` (Documentation/bpf/standardization/instruction-set.rst).
const ATOMIC_64: u8 = 0xdb;
/// `BPF_ADD | BPF_FETCH` in the immediate.
const ADD_FETCH: i32 = 0x01;

const WITH_FETCH_AND_ADD: (u32, u32) = (6, 1);
const WITH_LANES: (u32, u32) = (5, 10);

/// The object, or `None` in a build without programs, which says so.
fn programs(version: (u32, u32)) -> Option<object::File<'static>> {
    let Some(bytes) = object(version) else {
        assert!(std::env::var_os("ENDIOD_REQUIRE_PROGRAMS").is_none(), "built without programs");
        eprintln!("built without programs: run `cargo xtask setup` and build again");
        return None;
    };
    Some(object::File::parse(bytes).expect("the embedded object is an ELF file"))
}

/// Atomic instructions of all programs, by their immediate.
fn atomics(file: &object::File<'_>) -> Vec<i32> {
    let code = file.sections().filter(|section| section.kind() == SectionKind::Text);
    let mut found = Vec::new();
    for section in code {
        for instruction in section.data().expect("sections of a whole file").chunks_exact(8) {
            if instruction[0] == ATOMIC_64 {
                let immediate: [u8; 4] = instruction[4..8].try_into().expect("four bytes");
                found.push(i32::from_le_bytes(immediate));
            }
        }
    }
    found
}

#[test]
fn numbers_are_taken_by_fetch_and_add_where_the_kernel_has_it() {
    let Some(file) = programs(WITH_FETCH_AND_ADD) else { return };
    let atomics = atomics(&file);
    assert!(atomics.iter().all(|immediate| *immediate == ADD_FETCH), "{atomics:?}");
    assert!(atomics.len() >= PROBES.len(), "only {} for {} probes", atomics.len(), PROBES.len());
}

#[test]
fn an_object_for_older_kernels_has_no_atomic_that_they_refuse() {
    let Some(file) = programs(WITH_LANES) else { return };
    assert_eq!(atomics(&file), Vec::<i32>::new());
}

#[test]
fn every_probe_has_its_program_in_both_objects() {
    for version in [WITH_FETCH_AND_ADD, WITH_LANES] {
        let Some(file) = programs(version) else { return };
        for probe in PROBES {
            let found = file.symbols().any(|symbol| symbol.name() == Ok(probe.program));
            assert!(found, "no program {} for kernel {version:?}", probe.program);
        }
    }
}
