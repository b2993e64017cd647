//! When to attach and when to let go, where ext4 is a module.
//!
//! An attached program holds the module, so `rmmod ext4` would give EAGAIN for as long as the agent
//! runs. So it attaches when the first ext4 is mounted and lets go when the last is unmounted:
//!
//! ```text
//!               a file system is mounted
//!   waiting ──────────────────────────────► attached ◄─┐
//!      ▲  ▲──── it failed: again in 10 s ───┘   │  └───┘ ext4 is built in: for ever
//!      └────────── none at two looks ───────────┘
//! ```
//!
//! One look a second. Facts in, decisions out: nothing here reads anything.

use endiod::host::Ext4;

/// Looks without a mount before the programs go: a remount in another place shall not cost a stream.
const GONE_LOOKS: u32 = 2;
/// Looks after a failure before the next attempt.
const RETRY_LOOKS: u32 = 10;

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Go on.
    Stay,
    /// There is something to watch.
    Attach,
    /// There is nothing any more.
    Detach,
}

/// What was seen at the last looks.
#[derive(Debug, Default)]
pub(super) struct Presence {
    attached: bool,
    /// Nothing is attached to any more.
    over: bool,
    /// Looks in a row without a mount.
    gone: u32,
    /// Looks left until another attempt.
    retry_in: u32,
}

impl Presence {
    /// Takes a look; the caller does as told, and says so if it could not.
    pub(super) fn look(&mut self, ext4: Ext4) -> Turn {
        if self.over {
            return Turn::Stay;
        }
        let wanted = match ext4 {
            Ext4::BuiltIn => true,
            Ext4::Module { mounted } => mounted,
            Ext4::Absent => false,
        };
        self.gone = if wanted { 0 } else { self.gone + 1 };
        match (self.attached, wanted) {
            (false, true) if self.retry_in > 0 => self.retry_in -= 1,
            (false, true) => {
                self.attached = true;
                return Turn::Attach;
            }
            (true, false) if self.gone >= GONE_LOOKS => {
                self.attached = false;
                return Turn::Detach;
            }
            (false, false) => self.retry_in = 0,
            (true, _) => {}
        }
        Turn::Stay
    }

    /// Nothing shall be attached to again.
    pub(super) fn end(&mut self) {
        self.over = true;
    }

    /// Attaching did not work.
    pub(super) fn failed(&mut self) {
        self.attached = false;
        self.retry_in = RETRY_LOOKS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a look: `b`uilt in, `m`ounted, `l`oaded only, `a`bsent; `f`: the last attempt failed.
    /// The answers: attach, detach, `-`.
    #[track_caller]
    fn check(looks: &str, answers: &str) {
        let mut presence = Presence::default();
        let mut told = String::new();
        for look in looks.chars() {
            let ext4 = match look {
                'b' => Ext4::BuiltIn,
                'm' => Ext4::Module { mounted: true },
                'l' => Ext4::Module { mounted: false },
                'a' => Ext4::Absent,
                _ => {
                    presence.failed();
                    continue;
                }
            };
            told.push(match presence.look(ext4) {
                Turn::Stay => '-',
                Turn::Attach => 'A',
                Turn::Detach => 'D',
            });
        }
        assert_eq!(told, answers, "{looks}");
    }

    #[test]
    fn built_in_code_is_attached_to_at_once_and_for_ever() {
        check("bbbb", "A---");
    }

    #[test]
    fn a_module_is_attached_to_while_something_is_mounted() {
        check("aalmmmllllmm", "---A---D--A-");
    }

    #[test]
    fn a_mount_elsewhere_right_after_an_unmount_costs_no_stream() {
        check("mlmlm", "A----");
    }

    #[test]
    fn what_is_over_stays_so() {
        let mut presence = Presence::default();
        assert_eq!(presence.look(Ext4::BuiltIn), Turn::Attach);
        presence.end();
        assert_eq!(presence.look(Ext4::BuiltIn), Turn::Stay);
        assert_eq!(presence.look(Ext4::Module { mounted: true }), Turn::Stay);
    }

    #[test]
    fn a_failure_is_tried_again_after_a_while_or_at_the_next_mount() {
        check("mfmmmmmmmmmmm", "A----------A");
        check("mfmlm", "A--A");
    }
}
