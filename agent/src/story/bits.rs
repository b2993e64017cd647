//! The bits of `io_end->flag` by their names, which are `#define`s of fs/ext4/ext4.h.
//!
//! It must never give a name that the generation does not have: what it does not know is a number.

use crate::oracle::in_step::Protocol;

/// 3.3 to 3.6; 3.2 has the first three.
const OF_2012: &[(u32, &str)] =
    &[(1, "UNWRITTEN"), (2, "ERROR"), (4, "QUEUED"), (8, "DIRECT"), (0x10, "IN_FSYNC")];
/// 5.5 to 7.3; FAILED from 6.15 on and in stable series since mid 2025.
const OF_TODAY: &[(u32, &str)] = &[(1, "UNWRITTEN"), (2, "FAILED")];

/// The work routine has been queued again (3.2 to 3.6).
pub(super) const QUEUED: u32 = 4;
/// The fsync path works on it (3.3 to 3.6).
pub(super) const IN_FSYNC: u32 = 0x10;

/// `UNWRITTEN|FAILED`; what has no name as a number at the end.
pub(super) fn names(flag: u32, protocol: Protocol) -> String {
    let known = match protocol {
        Protocol::CompletedList => OF_2012,
        Protocol::Refcounted { .. } => OF_TODAY,
        Protocol::Unknown => &[],
    };
    let mut names: Vec<String> =
        known.iter().filter(|(bit, _)| flag & bit != 0).map(|(_, name)| (*name).into()).collect();
    let rest = known.iter().fold(flag, |rest, (bit, _)| rest & !bit);
    if rest != 0 || names.is_empty() {
        names.push(if rest == 0 { "0".to_owned() } else { format!("{rest:#x}") });
    }
    names.join("|")
}

#[cfg(test)]
mod tests {
    use super::{IN_FSYNC, OF_2012, QUEUED, names};
    use crate::lifecycle::{FLAG_FAILED, FLAG_UNWRITTEN};
    use crate::oracle::in_step::Protocol;

    #[test]
    fn bits_are_named_as_their_generation_names_them() {
        let today = Protocol::Refcounted { claims: true };
        assert_eq!(names(FLAG_UNWRITTEN | FLAG_FAILED, today), "UNWRITTEN|FAILED");
        assert_eq!(names(0x15, today), "UNWRITTEN|0x14");
        assert_eq!(names(0x15, Protocol::CompletedList), "UNWRITTEN|QUEUED|IN_FSYNC");
        assert_eq!(names(0, today), "0");
        assert_eq!(names(1, Protocol::Unknown), "0x1");
        assert!(OF_2012.contains(&(QUEUED, "QUEUED")) && OF_2012.contains(&(IN_FSYNC, "IN_FSYNC")));
    }
}
