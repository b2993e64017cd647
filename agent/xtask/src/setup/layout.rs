//! Where members of kernel structures are, for fixtures that touch structures of which no header is
//! public: read from the kernel's BTF by pahole, handed to the compiler as `layout.h`.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};

use super::headers::Headers;
use crate::command::output;

/// Structures and the members that fixtures touch.
const WANTED: &[(&str, &[&str])] = &[
    ("ext4_io_end", &["list", "handle", "inode", "bio", "flag", "count", "list_vec"]),
    ("ext4_io_end_vec", &["list", "offset", "size"]),
    (
        "ext4_inode_info",
        &[
            "vfs_inode",
            "i_data_sem",
            "i_completed_io_lock",
            "i_rsv_conversion_list",
            "i_rsv_conversion_work",
        ],
    ),
    ("ext4_sb_info", &["rsv_conversion_wq"]),
    ("iomap_dio", &["iocb"]),
];

/// The text of `layout.h`.
pub(super) fn header(headers: &Headers) -> Result<String> {
    let mut text = String::from("/* Generated from the kernel's BTF. */\n");
    for (structure, members) in WANTED {
        let shown = show(headers, structure)?;
        for member in *members {
            let offset = offset(&shown, member).with_context(|| {
                format!("struct {structure} of {} has no member {member}", headers.release())
            })?;
            writeln!(text, "#define LAYOUT_{structure}_{member} {offset}")
                .expect("a String takes all text");
        }
    }
    Ok(text)
}

fn show(headers: &Headers, structure: &str) -> Result<String> {
    let pahole = |of: &[&Path]| {
        output(headers.toolbox.command("pahole").args(["-F", "btf", "-C", structure]).args(of))
    };
    let (kernel, ext4) = (headers.btf(), headers.ext4_btf());
    if ext4.exists() && structure.starts_with("ext4_") {
        return pahole(&[Path::new("--btf_base"), &kernel, &ext4]);
    }
    pahole(&[&kernel])
}

/// Of pahole's `type name; /* offset size */`, the offset.
fn offset(shown: &str, member: &str) -> Option<u32> {
    shown.lines().find_map(|line| {
        let (declaration, comment) = line.split_once(';')?;
        let name = declaration.split_whitespace().last()?.trim_start_matches('*');
        let name = name.split('[').next()?;
        let first = comment.trim_start().strip_prefix("/*")?.split_whitespace().next()?;
        (name == member).then(|| first.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "struct ext4_io_end {
	struct list_head           list;                 /*     0    16 */
	handle_t *                 handle;               /*    16     8 */
	struct rw_semaphore        i_data_sem __attribute__((__aligned__(8))); /*   256    40 */
	/* --- cacheline 4 boundary (256 bytes) was 40 bytes ago --- */
	__le32                     i_data[15];           /*   300    60 */
	struct list_head           list_vec;             /*    48    16 */

	/* size: 64, cachelines: 1, members: 7 */
};
";

    #[test]
    fn the_offset_is_the_first_number_behind_the_member() {
        assert_eq!(offset(SHOWN, "list"), Some(0));
        assert_eq!(offset(SHOWN, "handle"), Some(16));
        assert_eq!(offset(SHOWN, "i_data"), Some(300));
        assert_eq!(offset(SHOWN, "list_vec"), Some(48));
    }

    #[test]
    fn what_is_not_there_has_no_offset() {
        assert_eq!(offset(SHOWN, "iocb"), None);
        assert_eq!(offset("", "list"), None);
    }
}
