//! The constants of synthetic kernels, with ext4 built in and as a module.

use super::*;
use crate::source::kernel::btf::tests as synthetic;

fn symbols() -> Symbols {
    let addresses = HashMap::from([("ext4_end_bio".to_owned(), 0xffff_8000)]);
    Symbols { addresses, ..Symbols::default() }
}

fn structures(of_ext4: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
    let all = OFFSETS.iter().map(|(_, structure, member)| (*structure, *member));
    let some = OFFSETS_OF_SOME.iter().map(|(_, structure, member, _)| (*structure, *member));
    all.chain(some).filter(move |(structure, _)| structure.starts_with("ext4_") == of_ext4)
}

/// ext4's own structures with an io_end of the layout that the image has.
fn module() -> Vec<(&'static str, &'static str, u32)> {
    let io_end = IO_END_LAYOUT
        .iter()
        .map(|(member, at)| ("ext4_io_end", *member, u32::try_from(*at).unwrap()));
    let others = structures(true).zip((64..).step_by(8)).map(|((of, member), at)| (of, member, at));
    io_end.chain(others).collect()
}

fn kernel() -> Vec<(&'static str, &'static str, u32)> {
    structures(false).zip((0..).step_by(8)).map(|((of, member), at)| (of, member, at)).collect()
}

#[test]
fn a_modules_structures_are_found_in_its_own_btf() {
    let vmlinux = synthetic::structures(None, &kernel());
    let vmlinux = Btf::parse(&vmlinux).unwrap();
    let split = synthetic::structures(Some(&vmlinux), &module());
    let split = Btf::parse_split(&vmlinux, &split).unwrap();
    let found = find(&split, Subject::Ext4, Ext4Types::Described, &symbols(), (6, 1)).unwrap();
    for (name, structure, member) in OFFSETS {
        let (_, offset) = found.words.iter().find(|(found, _)| found == name).unwrap();
        let at = split.struct_field(structure, member).unwrap().offset_bytes;
        assert_eq!(*offset, at, "{name}");
    }
}

#[test]
fn a_structure_that_nothing_describes_is_an_error_that_names_it() {
    let vmlinux = synthetic::structures(None, &kernel());
    let error = find(
        &Btf::parse(&vmlinux).unwrap(),
        Subject::Ext4,
        Ext4Types::Described,
        &symbols(),
        (6, 1),
    )
    .unwrap_err();
    assert!(matches!(error, OffsetsError::Field { structure: "ext4_io_end", .. }), "{error}");
}

#[test]
fn a_structure_of_another_shape_is_an_error_and_not_a_guess() {
    let mut shapes = [kernel(), module()].concat();
    shapes.iter_mut().filter(|(_, member, _)| *member == "flag").for_each(|it| it.2 = 56);
    let bytes = synthetic::structures(None, &shapes);
    let error =
        find(&Btf::parse(&bytes).unwrap(), Subject::Ext4, Ext4Types::Described, &symbols(), (6, 1))
            .unwrap_err();
    assert!(matches!(error, OffsetsError::Layout { member: "flag", .. }), "{error}");
}

#[test]
fn what_only_some_programs_need_makes_those_unusable_and_names_it() {
    let shapes: Vec<_> = [kernel(), module()]
        .concat()
        .into_iter()
        .filter(|(of, member, _)| (*of, *member) != ("request", "bio"))
        .collect();
    let bytes = synthetic::structures(None, &shapes);
    let found =
        find(&Btf::parse(&bytes).unwrap(), Subject::Ext4, Ext4Types::Described, &symbols(), (6, 1))
            .unwrap();
    assert!(found.unusable["tp_block_rq_complete"].contains("request.bio"), "{found:?}");
    assert!(found.unusable["tp_kmem_cache_alloc"].contains("ext4_init_io_end"), "{found:?}");
    assert!(!found.unusable.contains_key("submit_bio"), "{found:?}");
}

/// The constant by which enciphered bios are left out, and whether their own programs can be used: of a
/// kernel with or without the member, with or without the function.
fn enciphered(has_member: bool, has_function: bool) -> (u32, bool) {
    let (structure, member) = CRYPT_CONTEXT;
    let mut shapes = [kernel(), module()].concat();
    shapes.extend(has_member.then_some((structure, member, 96)));
    let bytes = synthetic::structures(None, &shapes);
    let kernel = Btf::parse(&bytes).unwrap();
    let above = has_function.then(|| synthetic::function(&kernel, ENCIPHERS));
    let above = above.as_deref().map(|bytes| Btf::parse_split(&kernel, bytes).unwrap());
    let found = find(
        above.as_ref().unwrap_or(&kernel),
        Subject::Ext4,
        Ext4Types::Described,
        &symbols(),
        (7, 3),
    )
    .unwrap();
    let word = found.words.iter().find(|(name, _)| *name == "BIO_BI_CRYPT_CONTEXT").unwrap().1;
    let usable = ENCIPHERED.iter().map(|program| !found.unusable.contains_key(program));
    let usable: Vec<_> = usable.collect();
    assert_eq!(usable[0], usable[1]);
    (word, usable[0])
}

#[test]
fn enciphered_bios_are_left_out_of_submit_bio_only_where_they_are_told_before() {
    assert_eq!(enciphered(true, true), (96, true));
    // Before 7.0 the member is there, and submit_bio sees them first.
    assert_eq!(enciphered(true, false), (0, true));
    assert_eq!(enciphered(false, true), (0, false));
}

#[test]
fn the_programs_of_enciphered_bios_are_rows_of_the_table() {
    for program in ENCIPHERED {
        let row = PROBES.iter().find(|probe| probe.program == *program).unwrap();
        assert_eq!(row.function, ENCIPHERS);
    }
}

#[test]
fn a_module_without_btf_gets_what_vmlinux_describes_and_says_that_the_rest_is_assumed() {
    let vmlinux = synthetic::structures(None, &kernel());
    let vmlinux = Btf::parse(&vmlinux).unwrap();
    let found = find(&vmlinux, Subject::Ext4, Ext4Types::Assumed, &symbols(), (5, 10)).unwrap();
    let word = |name| found.words.iter().find(|(found, _)| *found == name).map(|it| it.1);
    assert_eq!(word("LAYOUT_ASSUMED"), Some(1));
    for (name, structure, member) in OFFSETS {
        let at = vmlinux.struct_field(structure, member).ok().map(|field| field.offset_bytes);
        assert_eq!(word(name), at, "{name}");
    }
    assert_eq!(word("EXT4_INODE_RSV_WORK"), None, "nothing describes it");
    let vmlinux = synthetic::structures(None, &[kernel(), module()].concat());
    let described = find(
        &Btf::parse(&vmlinux).unwrap(),
        Subject::Ext4,
        Ext4Types::Described,
        &symbols(),
        (5, 10),
    )
    .unwrap();
    assert!(described.words.contains(&("LAYOUT_ASSUMED", 0)));
    assert!(described.undescribed.is_empty(), "{described:?}");
}

#[test]
fn functions_of_a_module_without_btf_are_found_in_kallsyms_and_take_kprobes_only() {
    let mut symbols = symbols();
    for name in ["ext4_put_io_end", "ext4_init_io_end", "ext4_end_io_rsv_work"] {
        symbols.addresses.insert(name.to_owned(), 0xffff_9000);
    }
    symbols.init_io_end_len = Some(64);
    let vmlinux = synthetic::structures(None, &kernel());
    let found =
        find(&Btf::parse(&vmlinux).unwrap(), Subject::Ext4, Ext4Types::Assumed, &symbols, (5, 10))
            .unwrap();
    assert!(found.undescribed.contains("ext4_put_io_end"), "{found:?}");
    assert!(!found.undescribed.contains("ext4_end_io_end"), "kallsyms has none");
    for probe in PROBES.iter().filter(|probe| probe.is_ext4()) {
        let why = found.unusable.get(probe.program);
        let traced = matches!(probe.hook, Hook::Entry | Hook::Exit);
        assert_eq!(why.is_some_and(|why| why.contains("without BTF")), traced, "{}", probe.program);
        assert_eq!(why.is_some(), traced, "{}: {why:?}", probe.program);
    }
    assert!(!found.unusable.contains_key("submit_bio"), "{found:?}");
}

/// Constants that the replica has a place for, and where that is.
fn of_the_replica() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let all = OFFSETS.iter().copied();
    let some = OFFSETS_OF_SOME.iter().map(|&(name, of, member, _)| (name, of, member));
    all.chain(some).filter_map(|(name, of, member)| {
        let (structure, member) = Subject::Replica.field((name, (of, member)))?;
        Some((name, structure, member))
    })
}

#[test]
fn the_replica_is_read_where_its_own_structures_have_the_members() {
    let io_end = IO_END_LAYOUT
        .iter()
        .map(|(member, at)| ("replica_io_end", *member, u32::try_from(*at).unwrap()));
    let others = of_the_replica()
        .zip((64..).step_by(8))
        .filter_map(|((_, of, member), at)| (member != "list").then_some((of, member, at)));
    let (structure, member) = Subject::Replica.completed_lock();
    let own = [(structure, member, 512)].into_iter();
    let shapes: Vec<_> = io_end.chain(others).chain(own).collect();
    let vmlinux = synthetic::structures(None, &kernel());
    let vmlinux = Btf::parse(&vmlinux).unwrap();
    let split = synthetic::structures(Some(&vmlinux), &shapes);
    let split = Btf::parse_split(&vmlinux, &split).unwrap();
    let mut symbols = symbols();
    symbols.addresses.insert("replica_end_bio".to_owned(), 0xffff_9000);
    let found = find(&split, Subject::Replica, Ext4Types::Described, &symbols, (7, 3)).unwrap();
    let word = |name: &str| found.words.iter().find(|(found, _)| *found == name).map(|it| it.1);
    for (name, structure, member) in of_the_replica() {
        let at = split.struct_field(structure, member).unwrap().offset_bytes;
        assert_eq!(word(name), Some(at), "{name}");
    }
    assert_eq!(word("INODE_COMPLETED_LOCK"), Some(512));
    assert_eq!(word("KIOCB_KI_POS"), None, "it has no direct writes");
    // No bio of its is enciphered, wherever the kernel's own say that they are.
    assert_eq!(word("BIO_BI_CRYPT_CONTEXT"), None);
    assert!(found.addresses.contains(&("EXT4_END_BIO", 0xffff_9000)));
}
