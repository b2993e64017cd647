//! Blobs built by hand, cut and corrupted at every byte, and the running kernel's own BTF.

use std::path::Path;

use super::layout::{MAGIC, VERSION};
use super::*;

const INT: u32 = 1;
const PTR: u32 = 2;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FWD: u32 = 7;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;

/// Writes BTF: types get the ids 1, 2, … in the order they are added.
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
    next_id: u32,
    first_string: u32,
}

impl Blob {
    fn new() -> Blob {
        Blob { types: Vec::new(), strings: vec![0], next_id: 1, first_string: 0 }
    }

    fn above(base: &Btf<'_>) -> Blob {
        let (next_id, first_string) = base.next();
        Blob { types: Vec::new(), strings: Vec::new(), next_id, first_string }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.first_string + u32::try_from(self.strings.len()).unwrap();
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn raw(&mut self, name: &str, info: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.name(name);
        for word in [name, info, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn plain(&mut self, kind: u32, name: &str, size_or_type: u32, tail: &[u32]) -> u32 {
        self.raw(name, kind << 24, size_or_type, tail)
    }

    fn int(&mut self, name: &str, len: u32) -> u32 {
        self.plain(INT, name, len, &[len * 8])
    }

    /// Members are name, type, encoded offset.
    fn aggregate(
        &mut self,
        (kind, kind_flag): (u32, bool),
        (name, len): (&str, u32),
        members: &[(&str, u32, u32)],
    ) -> u32 {
        let mut tail = Vec::new();
        for (member, type_id, offset) in members {
            tail.extend([self.name(member), *type_id, *offset]);
        }
        let vlen = u32::try_from(members.len()).unwrap();
        self.raw(name, u32::from(kind_flag) << 31 | kind << 24 | vlen, len, &tail)
    }

    fn structure(&mut self, name: &str, len: u32, members: &[(&str, u32, u32)]) -> u32 {
        self.aggregate((STRUCT, false), (name, len), members)
    }

    fn function(&mut self, name: &str, params: &[(&str, u32)]) -> u32 {
        let mut tail = Vec::new();
        for (param, type_id) in params {
            tail.extend([self.name(param), *type_id]);
        }
        let proto = self.raw("", FUNC_PROTO << 24 | u32::try_from(params.len()).unwrap(), 0, &tail);
        // The vlen of a function is its linkage: static here, so that 1 would be read as a tail.
        self.raw(name, FUNC << 24 | 1, proto, &[])
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([VERSION, 0]);
        let len = |part: &[u8]| u32::try_from(part.len()).unwrap();
        let (types, strings) = (len(&self.types), len(&self.strings));
        for word in [24, 0, types, types, strings] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// Name, type, encoded offset.
type Member<'a> = (&'a str, u32, u32);

/// BTF with structures of 8-byte members: structure, member (or `member.member`), byte.
pub(in super::super) fn structures(
    base: Option<&Btf<'_>>,
    rows: &[(&'static str, &'static str, u32)],
) -> Vec<u8> {
    let mut blob = base.map_or_else(Blob::new, Blob::above);
    let long = blob.int("unsigned long", 8);
    let mut shapes: Vec<(&str, Vec<Member<'_>>)> = Vec::new();
    let mut add = |structure: &'static str, member: &'static str, at: u32| match shapes
        .iter_mut()
        .find(|(name, _)| *name == structure)
    {
        Some((_, members)) => members.push((member, long, 8 * at)),
        None => shapes.push((structure, vec![(member, long, 8 * at)])),
    };
    // Inner ones first: what holds them refers to them.
    let (inner, outer): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.1.contains('.'));
    for (_, path, at) in &inner {
        let (member, field) = path.split_once('.').unwrap();
        add(member, field, *at);
    }
    for (structure, member, at) in outer {
        add(structure, member, at);
    }
    let mut ids: Vec<(&str, u32)> = Vec::new();
    for (name, mut members) in shapes {
        for (of, path, _) in inner.iter().filter(|row| row.0 == name) {
            let (member, _) = path.split_once('.').unwrap();
            let (_, id) = ids.iter().find(|(known, _)| known == &member).unwrap();
            if !members.iter().any(|(known, ..)| known == &member) {
                members.push((member, *id, 0));
            }
            assert_eq!(*of, name);
        }
        ids.push((name, blob.structure(name, 4096, &members)));
    }
    blob.bytes()
}

/// The same, described in a layer above: a function of that name without parameters.
pub(in super::super) fn function(base: &Btf<'_>, name: &str) -> Vec<u8> {
    let mut blob = Blob::above(base);
    blob.function(name, &[]);
    blob.bytes()
}

/// A small kernel: an inode with what makes real ones hard.
fn small_kernel() -> Blob {
    let mut blob = Blob::new();
    let long = blob.int("unsigned long", 8);
    let int = blob.int("int", 4);
    let lock = blob.structure("", 4, &[("slock", int, 0)]);
    let lock = blob.plain(TYPEDEF, "spinlock_t", lock, &[]);
    let lock = blob.plain(VOLATILE, "", lock, &[]);
    let links = blob.aggregate((UNION, false), ("", 8), &[("i_nlink", int, 0), ("wide", long, 0)]);
    let inner = blob.structure("", 16, &[("", links, 0), ("i_lock", lock, 64)]);
    let inner = blob.plain(CONST, "", inner, &[]);
    let numbers = blob.plain(ARRAY, "", 0, &[int, int, 15]);
    let fwd = blob.plain(FWD, "super_block", 0, &[]);
    let sb = blob.plain(PTR, "", fwd, &[]);
    let inode = [("i_ino", long, 0), ("", inner, 64), ("i_data", numbers, 192), ("i_sb", sb, 704)];
    let inode = blob.structure("inode", 96, &inode);
    let inode_ptr = blob.plain(PTR, "", inode, &[]);
    blob.function("ext4_evict_inode", &[("inode", inode_ptr)]);
    let name = blob.plain(CONST, "", int, &[]);
    let name = blob.plain(PTR, "", name, &[]);
    blob.function("warn", &[("sb", sb), ("where", name), ("", 0)]);
    let bits = [("low", int, 3 << 24), ("high", int, 5 << 24 | 3), ("plain", int, 32)];
    blob.aggregate((STRUCT, true), ("flags", 8), &bits);
    let three_bits = blob.plain(INT, "int", 4, &[3]);
    blob.structure("old_flags", 4, &[("low", three_bits, 0), ("high", int, 3)]);
    blob
}

fn field(offset_bytes: u32, size_bytes: u32) -> Result<Field, BtfError> {
    Ok(Field { offset_bytes, size_bytes })
}

/// Every question there is, so that a corrupted blob is asked all of them.
fn ask_everything(btf: &Btf<'_>) {
    for name in ["inode", "flags", "old_flags", "no_such"] {
        for path in ["i_ino", "i_nlink", "i_lock.slock", "i_data", "i_sb", "low", "plain", ""] {
            let _ = btf.struct_field(name, path);
        }
        let _ = btf.struct_size(name);
    }
    for name in ["ext4_evict_inode", "warn"] {
        let _ = (btf.has_function(name), btf.function_id(name), btf.function_params(name));
        let _ = btf.tracepoint_params(name);
    }
}

#[test]
fn members_are_found_through_anonymous_ones_typedefs_and_qualifiers() {
    let bytes = small_kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.struct_field("inode", "i_ino"), field(0, 8));
    assert_eq!(btf.struct_field("inode", "i_nlink"), field(8, 4));
    assert_eq!(btf.struct_field("inode", "wide"), field(8, 8));
    assert_eq!(btf.struct_field("inode", "i_lock"), field(16, 4));
    assert_eq!(btf.struct_field("inode", "i_lock.slock"), field(16, 4));
    assert_eq!(btf.struct_field("inode", "i_data"), field(24, 60));
    assert_eq!(btf.struct_field("inode", "i_sb"), field(88, 8));
    assert_eq!(btf.struct_size("inode"), Ok(96));
}

#[test]
fn each_way_to_miss_has_its_own_error() {
    let bytes = small_kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    let text = |name, path| btf.struct_field(name, path).unwrap_err().to_string();
    assert_eq!(text("bio", "x"), "look up struct bio: the kernel's BTF has none");
    assert_eq!(text("inode", "i_x"), "look up i_x in struct inode: no member i_x");
    assert_eq!(text("inode", "i_lock.x"), "look up i_lock.x in struct inode: no member x");
    assert_eq!(
        text("inode", "i_ino.x"),
        "look up i_ino.x in struct inode: x is asked of a type without members"
    );
    // A pointer is not followed: what it points to is not part of the struct.
    assert!(text("inode", "i_sb.s_dev").ends_with("type without members"));
    assert!(text("inode", "").contains("no member"));
    assert!(!btf.has_function("inode"));
    assert_eq!(
        btf.function_params("gone").unwrap_err().to_string(),
        "look up function gone: the kernel's BTF has none"
    );
}

#[test]
fn bit_fields_of_both_encodings_are_refused() {
    let bytes = small_kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.struct_field("flags", "plain"), field(4, 4));
    for (name, path) in
        [("flags", "low"), ("flags", "high"), ("old_flags", "low"), ("old_flags", "high")]
    {
        let error = btf.struct_field(name, path).unwrap_err();
        assert!(matches!(error, BtfError::BitField { .. }), "{name}.{path}: {error}");
    }
}

#[test]
fn functions_list_their_parameters() {
    let bytes = small_kernel().bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(btf.has_function("warn"));
    assert_eq!(btf.function_params("ext4_evict_inode").unwrap(), ["struct inode *"]);
    assert_eq!(btf.function_params("warn").unwrap(), ["struct super_block *", "int *", "..."]);
}

#[test]
fn tracepoints_list_their_arguments_without_the_first() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let data = blob.plain(PTR, "", 0, &[]);
    let bio = blob.plain(FWD, "bio", 0, &[]);
    let bio = blob.plain(PTR, "", bio, &[]);
    let params = [0, data, 0, bio, 0, int];
    let proto = blob.raw("", FUNC_PROTO << 24 | 3, 0, &params);
    let pointer = blob.plain(PTR, "", proto, &[]);
    blob.plain(TYPEDEF, "btf_trace_block_bio_queue", pointer, &[]);
    blob.plain(TYPEDEF, "btf_trace_not_a_function", int, &[]);
    blob.plain(TYPEDEF, "block_rq_complete", pointer, &[]);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.tracepoint_params("block_bio_queue").unwrap(), ["struct bio *", "int"]);
    for name in ["not_a_function", "block_rq_complete", "gone"] {
        let error = btf.tracepoint_params(name).unwrap_err();
        assert!(matches!(error, BtfError::MissingTracepoint { .. }), "{name}: {error}");
    }
}

#[test]
fn every_kind_is_stepped_over() {
    // The kind, its vlen and the words of its tail, from the kernel's Documentation/bpf/btf.rst.
    let kinds = [
        (1, 0, 1),
        (2, 0, 0),
        (3, 0, 3),
        (4, 2, 6),
        (5, 2, 6),
        (6, 2, 4),
        (7, 0, 0),
        (8, 0, 0),
        (9, 0, 0),
        (10, 0, 0),
        (11, 0, 0),
        (12, 1, 0),
        (13, 2, 4),
        (14, 0, 1),
        (15, 2, 6),
        (16, 0, 0),
        (17, 0, 1),
        (18, 0, 0),
        (19, 2, 6),
    ];
    for (kind, vlen, words) in kinds {
        let mut blob = Blob::new();
        blob.raw("x", kind << 24 | vlen, 0, &vec![0; words]);
        blob.structure("after", 7, &[]);
        let bytes = blob.bytes();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!((btf.type_count(), btf.struct_size("after")), (2, Ok(7)), "kind {kind}");
    }
    for kind in [0, 20, 31, 127] {
        let mut blob = Blob::new();
        blob.int("int", 4);
        blob.plain(kind, "x", 0, &[]);
        let error = Btf::parse(&blob.bytes()).unwrap_err();
        assert_eq!(error, BtfError::UnknownKind { kind, offset: 24 + 16 });
    }
}

#[test]
fn types_of_one_name_must_agree() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    blob.structure("twin", 8, &[("same", int, 0), ("moved", int, 32)]);
    blob.structure("twin", 8, &[("same", int, 0), ("moved", int, 0)]);
    let first = blob.function("ping", &[("x", int)]);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.struct_field("twin", "same"), field(0, 4));
    let ambiguous = |name: &str| BtfError::Ambiguous { name: name.to_owned(), count: 2 };
    assert_eq!(btf.struct_field("twin", "moved"), Err(ambiguous("twin")));
    assert_eq!(btf.function_id("ping"), Ok(TypeId(first)));
    blob.function("ping", &[("x", int)]);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.function_id("ping"), Err(ambiguous("ping")));
    assert_eq!(btf.function_params("ping").unwrap(), ["int"]);
}

#[test]
fn split_btf_continues_its_base() {
    let base_bytes = small_kernel().bytes();
    let base = Btf::parse(&base_bytes).unwrap();
    let (inode, int) = (12, 2);
    let mut blob = Blob::above(&base);
    let inode_ptr = blob.plain(PTR, "", inode, &[]);
    let members = [("inode", inode_ptr, 0), ("vfs_inode", inode, 64), ("count", int, 832)];
    let io_end = blob.structure("ext4_io_end", 112, &members);
    let io_end = blob.plain(PTR, "", io_end, &[]);
    let id = blob.function("ext4_put_io_end", &[("io_end", io_end)]);
    // A module's own type hides the base's of the same name.
    blob.structure("flags", 1, &[]);
    let bytes = blob.bytes();
    let btf = Btf::parse_split(&base, &bytes).unwrap();
    assert_eq!(btf.struct_field("ext4_io_end", "vfs_inode.i_lock.slock"), field(24, 4));
    assert_eq!(btf.struct_field("ext4_io_end", "count"), field(104, 4));
    assert_eq!(btf.struct_field("inode", "i_ino"), field(0, 8));
    assert_eq!((btf.struct_size("flags"), base.struct_size("flags")), (Ok(1), Ok(8)));
    assert_eq!(btf.function_id("ext4_put_io_end"), Ok(TypeId(id)));
    assert_eq!(btf.function_params("ext4_put_io_end").unwrap(), ["struct ext4_io_end *"]);
    assert!(btf.has_own_function("ext4_put_io_end") && btf.has_function("ext4_evict_inode"));
    assert!(
        !btf.has_own_function("ext4_evict_inode") && !base.has_own_function("ext4_evict_inode")
    );
    assert_eq!(btf.function_params("ext4_evict_inode").unwrap(), ["struct inode *"]);
    assert!(base.struct_size("ext4_io_end").is_err());
    let bytes = Blob { strings: vec![], ..Blob::new() }.bytes();
    let empty = Btf::parse_split(&base, &bytes).unwrap();
    assert_eq!(empty.struct_size("inode"), Ok(96));
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let bytes = small_kernel().bytes();
    for len in 0..bytes.len() {
        assert!(Btf::parse(&bytes[..len]).is_err(), "cut at {len}");
    }
}

#[test]
fn no_corrupted_byte_panics() {
    let bytes = small_kernel().bytes();
    let mut parsed = 0;
    for at in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1)] {
            let mut bytes = bytes.clone();
            bytes[at] = value;
            if let Ok(btf) = Btf::parse(&bytes) {
                ask_everything(&btf);
                parsed += 1;
            }
        }
    }
    // Otherwise the test would only have asked the header.
    assert!(parsed > 1000, "only {parsed} corrupted blobs parsed");
}

#[test]
fn loops_of_types_end_at_a_limit() {
    let mut blob = Blob::new();
    // Ids: 1 typedef of itself, 2 array of itself, 3 struct with itself inside, twice, anonymous.
    blob.plain(TYPEDEF, "loop", 1, &[]);
    blob.plain(ARRAY, "", 0, &[2, 2, 1]);
    blob.structure("nest", 8, &[("", 3, 0), ("", 3, 0), ("array", 2, 0), ("alias", 1, 0)]);
    blob.function("f", &[("x", 1)]);
    let pointer = blob.next_id;
    blob.plain(PTR, "", pointer, &[]);
    blob.function("g", &[("x", pointer)]);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    for error in [
        btf.struct_field("nest", "absent").unwrap_err(),
        btf.struct_field("nest", "array").unwrap_err(),
        btf.struct_field("nest", "alias").unwrap_err(),
        btf.function_params("g").unwrap_err(),
    ] {
        assert!(matches!(error, BtfError::Limit { .. }), "{error}");
    }
    assert_eq!(btf.function_params("f").unwrap(), ["loop"]);
}

#[test]
fn sizes_that_overflow_or_reach_outside_are_refused() {
    let mut blob = Blob::new();
    let int = blob.int("int", 4);
    let fwd = blob.plain(FWD, "hidden", 0, &[]);
    let mut huge = int;
    for _ in 0..3 {
        huge = blob.plain(ARRAY, "", 0, &[huge, int, u32::MAX]);
    }
    let flexible = blob.plain(ARRAY, "", 0, &[int, int, 0]);
    let members =
        [("huge", huge, 0), ("outside", int, 40), ("hidden", fwd, 0), ("tail", flexible, 64)];
    blob.structure("s", 8, &members);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    for path in ["huge", "outside", "hidden"] {
        let error = btf.struct_field("s", path).unwrap_err();
        assert!(matches!(error, BtfError::NoSize { .. }), "{path}: {error}");
    }
    assert_eq!(btf.struct_field("s", "tail"), field(8, 0));
}

#[test]
fn enums_have_sizes() {
    let mut blob = Blob::new();
    let kind = blob.raw("kind", ENUM << 24 | 1, 4, &[0, 7]);
    let wide = blob.raw("wide", 19 << 24 | 1, 8, &[0, 7, 7]);
    blob.structure("s", 16, &[("kind", kind, 0), ("wide", wide, 64)]);
    let bytes = blob.bytes();
    let btf = Btf::parse(&bytes).unwrap();
    assert_eq!(btf.struct_field("s", "kind"), field(0, 4));
    assert_eq!(btf.struct_field("s", "wide"), field(8, 8));
}

#[test]
fn what_is_not_btf_is_named() {
    let text = |bytes: &[u8]| Btf::parse(bytes).unwrap_err().to_string();
    assert!(text(b"\x7fELF....................").contains("magic"));
    assert!(text(b"").contains("header"));
    let mut bytes = Blob::new().bytes();
    bytes[2] = 2;
    assert!(text(&bytes).contains("version 2"));
    let no_strings = Blob { strings: vec![], ..Blob::new() };
    assert_eq!(Btf::parse(&no_strings.bytes()).unwrap_err(), BtfError::Strings);
    assert!(matches!(
        Btf::parse(&vec![0; BLOB_LEN_MAX + 1]).unwrap_err(),
        BtfError::TooLarge { .. }
    ));
}

#[test]
fn the_running_kernel_is_read() {
    let path = Path::new("/sys/kernel/btf/vmlinux");
    if !path.exists() {
        eprintln!("not run: this kernel has no {}", path.display());
        return;
    }
    let bytes = std::fs::read(path).unwrap();
    let btf = Btf::parse(&bytes).unwrap();
    assert!(btf.type_count() > 10_000);
    let offset = |name, path| btf.struct_field(name, path).unwrap();
    assert_eq!(offset("list_head", "prev"), Field { offset_bytes: 8, size_bytes: 8 });
    assert_eq!(offset("inode", "i_ino").size_bytes, 8);
    assert_eq!(offset("bio", "bi_private").size_bytes, 8);
    assert_eq!(offset("super_block", "s_dev").size_bytes, 4);
    assert_eq!(offset("bio", "bi_iter.bi_sector").size_bytes, 8);
    assert!(btf.has_function("vfs_fsync_range"));
    let params = btf.function_params("vfs_fsync_range").unwrap();
    assert_eq!(params, ["struct file *", "loff_t", "loff_t", "int"]);
    if btf.has_function("ext4_put_io_end") {
        assert_eq!(offset("ext4_io_end", "flag").offset_bytes, 40);
        let work = offset("ext4_inode_info", "i_rsv_conversion_work");
        assert_eq!(work.size_bytes, btf.struct_size("work_struct").unwrap());
        assert_eq!(btf.function_params("ext4_put_io_end").unwrap(), ["ext4_io_end_t *"]);
    }
}
