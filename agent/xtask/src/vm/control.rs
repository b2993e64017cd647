//! What the guest's init says on its second port, one line each:
//!
//! ```text
//! boot ─► start ─► exit N
//!    └──────┴────► fail WHY      the guest could not be made ready
//! ```
//!
//! A last line without its end is not yet there.

/// What was said so far.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Control {
    pub(super) booted: bool,
    pub(super) started: bool,
    pub(super) exited: Option<u8>,
    pub(super) failed: Option<String>,
}

impl Control {
    pub(super) fn parse(text: &str) -> Self {
        let mut control = Self::default();
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            match line.split_once(' ').unwrap_or((line, "")) {
                ("boot", _) => control.booted = true,
                ("start", _) => control.started = true,
                ("exit", status) => control.exited = status.parse().ok(),
                ("fail", why) => control.failed = Some(why.to_owned()),
                _ => {}
            }
        }
        control
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_life_is_read() {
        let control = Control::parse("boot\nstart\nexit 3\n");
        assert!(control.booted && control.started);
        assert_eq!((control.exited, control.failed), (Some(3), None));
    }

    #[test]
    fn half_a_line_is_not_yet_said() {
        assert_eq!(Control::parse("boot\nstart\nexit 1").exited, None);
    }

    #[test]
    fn a_failure_keeps_its_words() {
        let control = Control::parse("boot\nfail cannot mount /dev/vda: bad option\n");
        assert_eq!(control.failed.as_deref(), Some("cannot mount /dev/vda: bad option"));
    }
}
