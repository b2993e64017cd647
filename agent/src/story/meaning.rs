//! What the breach of a rule means and what it leads to, for a reader who never read the kernel.
//!
//! One row per rule; a test wants a row for each rule that there is.

use super::{picture::PLAIN, text::wrap};

/// What a finding of this rule means, then what it leads to.
pub fn meaning(rule: &str) -> Option<(&'static str, &'static str)> {
    MEANINGS.iter().find(|(label, ..)| *label == rule).map(|(_, means, leads)| (*means, *leads))
}

/// The same as lines of a picture.
pub fn meaning_in_lines(rule: &str) -> Option<String> {
    meaning(rule).map(|(means, leads)| wrap(&format!("{means} {leads}"), PLAIN, "  "))
}

const MEMORY: &str = "The memory may belong to somebody else by then: at best nothing is noticed, else \
                      a write is never reported as done and whoever waits for it hangs, or another's \
                      is reported in its place.";

/// Rule, meaning, consequence.
const MEANINGS: &[(&str, &str, &str)] = &[
    (
        "worker_freed_in_use",
        "The worker freed it while another task was still working on it.",
        MEMORY,
    ),
    (
        "double_process",
        "It may be converted by one task, once. Here a second one set to work on it, or the same one \
         again.",
        "Its extents may be converted twice, its bios' pages may be reported as written twice, and \
         whoever comes second may work on memory that the first has given back.",
    ),
    (
        "release_twice",
        "It was given back twice.",
        "The allocator may hand out the same memory to two owners, who then write over each other.",
    ),
    ("use_after_release", "It was used after it had been given back.", MEMORY),
    (
        "bad_reference",
        "Whoever touches it must hold one of its references, and nobody may begin its end while one \
         is held. The count says otherwise here.",
        "One reference too few and it is given back under somebody's hands; one too many and it is \
         never converted, and every fsync, truncate and umount of the file waits for ever.",
    ),
    (
        "bad_linkage",
        "Its link says that it is on a list on which it cannot be, or is not where it must be.",
        "The list of the inode is damaged: io_ends on it may be lost, and their files' writes with \
         them, or the kernel stops with a list corruption.",
    ),
    (
        "unlocked_flag_write",
        "Its flag was written by somebody who may not, or at a time when it may not be.",
        "A write that others make at the same time is lost. What the flag then says is wrong: a mark \
         that protects it is gone, or one that should be gone stays.",
    ),
    (
        "lost_flag_update",
        "A bit of its flag that was set is gone, or one that must be set is not.",
        "What the bit stood for is forgotten: data stay unconverted and read as zeros, or the failure \
         of a write is not told.",
    ),
    (
        "unknown_flag_bits",
        "Its flag has bits that no kernel of this generation sets.",
        "Something else wrote to this memory; nothing in it can be trusted.",
    ),
    (
        "convert_after_failed_write",
        "A write of it failed, and yet its extents are converted to written ones.",
        "The file shows whatever was on the disk before: another file's old data, say.",
    ),
    (
        "unpinned_inode",
        "It waits for the worker with nothing that keeps its inode in memory.",
        "If the inode is dropped now, the worker runs on memory that was given back.",
    ),
    (
        "leaked_handle",
        "Its reserved journal handle is not where it should be: it ends with one or waits without.",
        "A reservation that is never given back makes the journal smaller for everybody; without one \
         the conversion can wait for a journal that waits for it.",
    ),
    (
        "missing_bio",
        "Not all bios that were submitted for it have ended, and yet it ends.",
        "Pages are reported as written that the device may not have written.",
    ),
    (
        "convert_in_irq",
        "The conversion may sleep, and it was begun where sleeping is not allowed.",
        "The CPU can stop for good.",
    ),
    (
        "direct_io_order",
        "It was reported as complete twice, after its call had returned, or while nobody was told to wait \
         for it.",
        "Whoever waits is told of the wrong write or works on memory that was given back, and truncate may \
         give away blocks that are still written.",
    ),
    (
        "fsync_before_conversion",
        "fsync returned success while a write that it must cover was not converted.",
        "After a crash the file can read as zeros where the program was promised data.",
    ),
    (
        "conversion_error_hidden",
        "The conversion failed, and fsync returned success.",
        "The program was promised data that are not there.",
    ),
    (
        "stuck",
        "It has been in the same state for longer than it should.",
        "Every fsync, truncate and umount that needs it waits with it, and so does each commit of the \
         journal that holds its data.",
    ),
    (
        "oracle_divergence",
        "No run of the protocol's reference model explains what was seen.",
        "The kernel did something with it that the protocol does not have; the other findings of the \
         same object, if there are any, say what.",
    ),
];

#[cfg(test)]
mod tests {
    use super::{MEANINGS, meaning};
    use crate::detect::Rule;

    #[test]
    fn every_rule_has_its_meaning_and_no_rule_two() {
        for rule in Rule::ALL {
            assert!(meaning(rule.label()).is_some(), "{} has no meaning", rule.label());
        }
        for (at, (label, means, leads)) in MEANINGS.iter().enumerate() {
            assert!(means.ends_with('.') && leads.ends_with('.'), "{label}");
            assert!(MEANINGS[..at].iter().all(|(other, ..)| other != label), "{label} twice");
            assert!(Rule::ALL.iter().any(|rule| rule.label() == *label), "{label} is no rule");
        }
    }
}
